"use strict";
// Draws every figure.chart from the numbers in it, and lets people read them: hover, keys, zoom, legend, scale.
// Charts of one .charts share their x axis, range, crosshair and smoothing.
(() => {
  const STEP = 1.8; // device pixels of a line
  const style = getComputedStyle(document.documentElement);
  const css = (name) => style.getPropertyValue(name).trim();
  const KINDS = { u4: Uint32Array, f4: Float32Array, f8: Float64Array };
  const columns = new Map();

  function column(id) {
    if (!columns.has(id)) {
      const text = atob(document.querySelector(`script.column[data-id="${id}"]`).textContent);
      const bytes = new Uint8Array(text.length);
      for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
      columns.set(id, new KINDS[id.slice(0, 2)](bytes.buffer));
    }
    return columns.get(id);
  }

  // 0.693147, 12,345, 2.5e-5: as many digits as anybody compares.
  function shown(value) {
    if (Number.isNaN(value)) return "NaN";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
    const short = Number(value.toPrecision(6));
    return Math.abs(short) >= 1e4 && Math.abs(short) < 1e12 ? short.toLocaleString("en") : String(short);
  }

  // The first index whose x is not below `value`.
  function at(x, value) {
    let low = 0, high = x.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (x[mid] < value) low = mid + 1; else high = mid;
    }
    return low;
  }

  function nearest(x, value) {
    const i = at(x, value);
    if (i === 0) return 0;
    if (i === x.length) return x.length - 1;
    return value - x[i - 1] <= x[i] - value ? i - 1 : i;
  }

  // Exponential moving average over the finite values, without the bias of its beginning.
  function smoothed(y, weight) {
    const out = new Float64Array(y.length);
    let mean = 0, mass = 0;
    for (let i = 0; i < y.length; i++) {
      if (Number.isFinite(y[i])) {
        mean = weight * mean + (1 - weight) * y[i];
        mass = weight * mass + (1 - weight);
        out[i] = mean / mass;
      } else out[i] = NaN;
    }
    return out;
  }

  function ticks(low, high, about) {
    const raw = (high - low) / Math.max(1, about);
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((s) => s >= raw * 0.999) || power;
    const out = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) out.push(k * step);
    return out;
  }

  function logTicks(low, high) { // of exponents of 10
    const out = [];
    const every = Math.max(1, Math.ceil((high - low) / 6));
    for (let p = Math.ceil(low - 1e-9); p <= high + 1e-9; p += every) out.push(p);
    if (out.length < 2) return ticks(low, high, 4);
    return out;
  }

  const si = (value) => {
    const size = Math.abs(value);
    if (size >= 1e9) return `${+(value / 1e9).toPrecision(4)}G`;
    if (size >= 1e6) return `${+(value / 1e6).toPrecision(4)}M`;
    if (size >= 1e4) return `${+(value / 1e3).toPrecision(4)}k`;
    return `${+value.toPrecision(4)}`;
  };

  class Group {
    constructor(box, charts) {
      this.charts = charts;
      this.range = null;
      this.cursor = null;
      this.smooth = 0;
      this.longest = Math.max(...charts.flatMap((chart) => chart.lines.map((line) => line.y.length)));
      const first = charts[0];
      this.axes = first.data.axes.filter((axis) => charts.every((chart) => chart.data.axes.includes(axis)));
      this.axis = this.axes[0];
      for (const chart of charts) chart.group = this;
      this.box = box;
      if (box) this.toolbar(box);
      this.measure();
    }

    toolbar(box) {
      const select = box.querySelector(".axis select");
      for (const axis of this.axes) select.add(new Option(axis, axis));
      select.parentElement.hidden = false;
      if (this.axes.length < 2) select.parentElement.style.display = "none";
      select.addEventListener("change", () => { this.axis = select.value; this.cursor = null; this.measure(); this.zoom(null); });
      const slider = box.querySelector(".smooth");
      slider.addEventListener("input", () => {
        this.smooth = Number(slider.value);
        slider.nextElementSibling.textContent = slider.value;
        this.draw();
      });
      this.whole = box.querySelector(".whole");
      this.whole.addEventListener("click", () => this.zoom(null));
    }

    // The range of x over all charts of the group, so that they line up.
    measure() {
      let low = Infinity, high = -Infinity;
      for (const chart of this.charts) {
        for (const line of chart.lines) {
          const x = line.x(this.axis);
          if (x.length) { low = Math.min(low, x[0]); high = Math.max(high, x[x.length - 1]); }
        }
      }
      if (low > 0 && low < 0.1 * (high - low)) low = 0;
      if (!(low < high)) { low = Number.isFinite(low) ? low - 0.5 : 0; high = low + 1; }
      this.all = [low, high];
    }

    // Of the mean so far, at each point of a line: over as many images for a line of few points as for one of many.
    weight(line) { return this.smooth && this.smooth ** (this.longest / Math.max(1, line.y.length)); }

    get span() { return this.range || this.all; }

    zoom(range) {
      this.range = range;
      if (this.whole) this.whole.disabled = !range;
      this.draw();
    }

    point(value, owner) {
      this.cursor = value;
      for (const chart of this.charts) chart.over(chart === owner);
    }

    draw() { for (const chart of this.charts) { chart.draw(); chart.over(false); } }
  }

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.data = JSON.parse(figure.querySelector(':scope > script[type="application/json"]').textContent);
      this.lines = this.data.lines.map((line) => ({
        ...line, y: column(line.y), shown: true, cache: [0, null],
        x: (axis) => column(line.x[axis]),
        smooth(weight) {
          if (!weight) return this.y;
          if (this.cache[0] !== weight) this.cache = [weight, smoothed(this.y, weight)];
          return this.cache[1];
        },
      }));
      this.log = this.data.log;
      [this.canvas, this.upper] = figure.querySelectorAll("canvas");
      this.tip = figure.querySelector(".tip");
      this.drag = null;
      const button = figure.querySelector(".log");
      const positive = this.lines.some((line) => line.y.some((value) => value > 0));
      if (!positive) { button.hidden = true; this.log = false; }
      button.addEventListener("click", () => {
        this.log = !this.log;
        button.setAttribute("aria-pressed", this.log);
        this.draw();
        this.over(false);
      });
      figure.querySelectorAll(".legend button").forEach((entry, i) => entry.addEventListener("click", (event) => {
        if (event.shiftKey || event.altKey) this.lines.forEach((line, k) => { line.shown = k === i; });
        else this.lines[i].shown = !this.lines[i].shown;
        figure.querySelectorAll(".legend button").forEach((b, k) => b.setAttribute("aria-pressed", this.lines[k].shown));
        this.draw();
        this.over(false);
      }));
      this.listen();
    }

    listen() {
      const over = this.upper;
      const where = (event) => event.clientX - over.getBoundingClientRect().left;
      over.addEventListener("pointermove", (event) => {
        if (this.drag) { this.drag[1] = where(event); }
        this.group.point(this.toX(where(event)), this);
      });
      over.addEventListener("pointerdown", (event) => {
        if (event.pointerType === "mouse" && event.button === 0) {
          this.drag = [where(event), where(event)];
          over.setPointerCapture(event.pointerId);
        } else this.group.point(this.toX(where(event)), this);
      });
      over.addEventListener("pointerup", () => {
        const drag = this.drag;
        this.drag = null;
        if (drag && Math.abs(drag[1] - drag[0]) > 6) {
          const range = drag.map((px) => this.toX(px)).sort((a, b) => a - b);
          if (range[1] > range[0]) this.group.zoom(range);
        }
      });
      over.addEventListener("pointercancel", () => { this.drag = null; });
      over.addEventListener("pointerleave", () => { if (!this.drag) this.group.point(null, this); });
      over.addEventListener("dblclick", () => this.group.zoom(null));
      over.addEventListener("blur", () => this.group.point(null, this));
      over.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      const lines = this.lines.filter((line) => line.shown && line.y.length);
      if (!lines.length) return;
      if (event.key === "Escape") {
        if (this.group.cursor === null) this.group.zoom(null); else this.group.point(null, this);
        return;
      }
      const x = lines.reduce((a, b) => (b.y.length > a.y.length ? b : a)).x(this.group.axis);
      const [low, high] = this.group.span;
      const first = Math.min(at(x, low), x.length - 1), last = Math.max(first, nearest(x, high));
      let i = this.group.cursor === null ? (event.key === "ArrowLeft" ? last : first) : nearest(x, this.group.cursor);
      const far = event.shiftKey ? Math.max(1, Math.round((last - first) / 20)) : 1;
      if (event.key === "Home") i = first;
      else if (event.key === "End") i = last;
      else if (this.group.cursor !== null && event.key === "ArrowRight") i += far;
      else if (this.group.cursor !== null && event.key === "ArrowLeft") i -= far;
      else if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
      event.preventDefault();
      this.group.point(x[Math.max(first, Math.min(last, i))], this);
    }

    // The part of a line that is in view, with one point more on each side.
    window(line) {
      const x = line.x(this.group.axis), [low, high] = this.group.span;
      return [Math.max(0, at(x, low) - 1), Math.min(x.length - 1, at(x, high))];
    }

    scale(y) { return this.log ? (y > 0 ? Math.log10(y) : NaN) : y; }

    toX(px) {
      const [low, high] = this.group.span;
      return low + ((Math.min(Math.max(px, this.left), this.right) - this.left) / (this.right - this.left)) * (high - low);
    }

    extent() {
      let low = Infinity, high = -Infinity;
      const [from, to] = this.group.span;
      for (const line of this.lines) {
        if (!line.shown) continue;
        const x = line.x(this.group.axis), [first, last] = this.window(line);
        for (let i = first; i <= last; i++) {
          if (x[i] < from || x[i] > to) continue;
          const value = this.scale(line.y[i]);
          if (value < low && value > -Infinity) low = value;
          if (value > high && value < Infinity) high = value;
        }
      }
      if (low > high) return this.log ? [-1, 0] : [0, 1];
      if (low === high) { const by = Math.abs(low) * 0.1 || 0.5; return [low - by, high + by]; }
      const by = (high - low) * 0.05;
      return [low - by, high + by];
    }

    draw() {
      const width = this.canvas.clientWidth, height = this.canvas.clientHeight, dpr = window.devicePixelRatio || 1;
      if (!width || !height) return;
      for (const canvas of [this.canvas, this.upper]) {
        canvas.width = Math.round(width * dpr);
        canvas.height = Math.round(height * dpr);
      }
      const pen = this.canvas.getContext("2d");
      pen.scale(dpr, dpr);
      pen.font = `12px ${css("--sans")}`;
      const [low, high] = this.extent(), [from, to] = this.group.span;
      const marks = this.log ? logTicks(low, high) : ticks(low, high, height / 50);
      const label = (value) => (this.log ? si(10 ** value) : si(value));
      const widest = Math.max(...marks.map((value) => pen.measureText(label(value)).width), 12);
      this.left = widest + 14;
      this.right = width - 10;
      this.top = 8;
      this.bottom = height - 24;
      const X = (x) => this.left + ((x - from) / (to - from)) * (this.right - this.left);
      const Y = (y) => this.bottom - ((y - low) / (high - low)) * (this.bottom - this.top);
      this.X = X;
      this.Y = (value) => Y(this.scale(value));
      pen.strokeStyle = css("--line");
      pen.fillStyle = css("--soft");
      pen.lineWidth = 1;
      pen.textBaseline = "middle";
      pen.textAlign = "right";
      for (const value of marks) {
        const y = Math.round(Y(value)) + 0.5;
        pen.beginPath(); pen.moveTo(this.left, y); pen.lineTo(this.right, y); pen.stroke();
        pen.fillText(label(value), this.left - 8, y);
      }
      pen.textBaseline = "alphabetic";
      pen.textAlign = "center";
      for (const value of ticks(from, to, Math.max(2, width / 110))) {
        const text = si(value), half = pen.measureText(text).width / 2;
        if (X(value) + half > this.right - pen.measureText(this.group.axis).width - 8) continue; // its name stands there
        pen.fillText(text, Math.max(this.left + half - 6, X(value)), height - 7);
      }
      pen.textAlign = "right";
      pen.fillText(this.group.axis, this.right, height - 7);
      for (const mark of this.data.marks) {
        const x = Math.round(X(mark.x[this.group.axis])) + 0.5;
        if (!(x >= this.left && x <= this.right)) continue;
        pen.strokeStyle = pen.fillStyle = css("--warn");
        pen.setLineDash([2, 3]);
        pen.beginPath(); pen.moveTo(x, this.top); pen.lineTo(x, this.bottom); pen.stroke();
        pen.setLineDash([]);
        pen.beginPath(); pen.arc(x, this.bottom, 3, 0, 7); pen.fill();
      }
      pen.save();
      pen.beginPath();
      pen.rect(this.left - 2, this.top - 4, this.right - this.left + 4, this.bottom - this.top + 8);
      pen.clip();
      pen.lineJoin = "round";
      let lost = 0;
      for (const line of this.lines) {
        if (!line.shown) continue;
        pen.strokeStyle = pen.fillStyle = css(`--c${line.colour}`);
        pen.setLineDash(line.dashed ? [6, 4] : []);
        pen.lineWidth = STEP;
        const [first, last] = this.window(line), dense = last - first > 2 * (this.right - this.left);
        if (this.group.smooth) {
          pen.globalAlpha = 0.22;
          this.path(pen, line, line.y, dpr);
          pen.globalAlpha = 1;
        } else if (dense) { // lines are bands here: what lies below stays visible
          pen.globalAlpha = 0.78;
          pen.lineWidth = 1.4;
        }
        this.path(pen, line, line.smooth(this.group.weight(line)), dpr);
        pen.globalAlpha = 1;
        lost += this.holes(pen, line);
      }
      pen.restore();
      this.figure.dataset.drawn = Number(this.figure.dataset.drawn || 0) + 1;
      this.figure.dataset.holes = lost;
    }

    // One stroke per unbroken stretch. Where points are denser than pixels, each column of pixels gets the first, the
    // least, the greatest and the last of its points: no spike is lost.
    path(pen, line, y, dpr) {
      const x = line.x(this.group.axis), [first, last] = this.window(line);
      const few = last - first < (this.right - this.left) / 12;
      pen.beginPath();
      let up = true, cell = NaN, low = 0, high = 0, end = 0, count = 0, px = 0;
      const alone = [];
      const flush = () => {
        if (Number.isNaN(cell)) return;
        if (low !== high) { pen.lineTo(cell, low); pen.lineTo(cell, high); }
        pen.lineTo(cell, end);
        cell = NaN;
      };
      const close = () => { flush(); if (count === 1) alone.push([px, end]); up = true; count = 0; };
      for (let i = first; i <= last; i++) {
        const value = this.Y(y[i]);
        if (!Number.isFinite(value)) { close(); continue; }
        const here = Math.round(this.X(x[i]) * dpr) / dpr;
        if (up) { pen.moveTo(here, value); up = false; cell = here; low = high = value; }
        else if (here !== cell) { flush(); pen.lineTo(here, value); cell = here; low = high = value; }
        else { low = Math.max(low, value); high = Math.min(high, value); }
        end = value;
        px = here;
        count++;
        if (few) alone.push([here, value]);
      }
      close();
      pen.stroke();
      for (const [dotX, dotY] of alone) {
        pen.beginPath(); pen.arc(dotX, dotY, few ? 2.4 : 1.6, 0, 7); pen.fill();
      }
    }

    // What is NaN or infinite has no place on the axis: a mark at the upper edge.
    holes(pen, line) {
      const x = line.x(this.group.axis), [first, last] = this.window(line);
      let lost = 0, before = -9;
      pen.fillStyle = css("--bad");
      for (let i = first; i <= last; i++) {
        if (Number.isFinite(line.y[i])) continue;
        lost++;
        const px = this.X(x[i]);
        if (px - before < 2) continue;
        before = px;
        pen.beginPath(); pen.moveTo(px - 4, this.top - 3); pen.lineTo(px + 4, this.top - 3); pen.lineTo(px, this.top + 4); pen.fill();
      }
      return lost;
    }

    // Crosshair, dots and the tip with every line's value. own: this is the chart under the pointer.
    over(own) {
      const pen = this.upper.getContext("2d"), dpr = window.devicePixelRatio || 1;
      pen.setTransform(dpr, 0, 0, dpr, 0, 0);
      pen.clearRect(0, 0, this.upper.width, this.upper.height);
      const cursor = this.group.cursor, axis = this.group.axis;
      if (this.drag) {
        pen.fillStyle = css("--accent");
        pen.globalAlpha = 0.14;
        pen.fillRect(this.drag[0], this.top, this.drag[1] - this.drag[0], this.bottom - this.top);
        pen.globalAlpha = 1;
      }
      const lines = this.lines.filter((line) => line.shown && line.y.length);
      if (cursor === null || !lines.length || !this.X) { this.tip.hidden = true; return; }
      let here = NaN, from = null, index = 0;
      for (const line of lines) {
        const x = line.x(axis), i = nearest(x, cursor);
        if (!(Math.abs(x[i] - cursor) >= Math.abs(here - cursor))) { here = x[i]; from = line; index = i; }
      }
      const px = this.X(here);
      if (px < this.left - 1 || px > this.right + 1) { this.tip.hidden = true; return; }
      pen.strokeStyle = css("--soft");
      pen.lineWidth = 1;
      pen.beginPath(); pen.moveTo(Math.round(px) + 0.5, this.top); pen.lineTo(Math.round(px) + 0.5, this.bottom); pen.stroke();
      const rows = lines.map((line) => {
        const x = line.x(axis), i = nearest(x, here), y = line.smooth(this.group.weight(line));
        const dot = this.Y(y[i]);
        if (Number.isFinite(dot)) {
          pen.fillStyle = css(`--c${line.colour}`);
          pen.strokeStyle = css("--card");
          pen.lineWidth = 1.5;
          pen.beginPath(); pen.arc(this.X(x[i]), dot, 4, 0, 7); pen.fill(); pen.stroke();
        }
        const elsewhere = Math.abs(this.X(x[i]) - px) > 3 ? `at ${shown(x[i])}` : "";
        return [line, shown(line.y[i]), this.group.smooth ? `~ ${shown(y[i])}` : "", elsewhere];
      });
      if (!own) { this.tip.hidden = true; return; }
      this.tip.replaceChildren();
      const head = document.createElement("div");
      head.textContent = this.data.axes.map((name) => `${name} ${shown(from.x(name)[index])}`).join("  ·  ");
      const table = document.createElement("table");
      for (const [line, value, soft, elsewhere] of rows) {
        const row = table.insertRow(), name = row.insertCell(), swatch = document.createElement("i");
        swatch.style.setProperty("--c", `var(--c${line.colour})`);
        if (line.dashed) swatch.style.borderTopStyle = "dashed";
        name.append(swatch, line.name);
        row.insertCell().textContent = value;
        if (soft) row.insertCell().textContent = soft;
        if (elsewhere) row.insertCell().textContent = elsewhere;
      }
      this.tip.append(head, table);
      for (const mark of this.data.marks) {
        if (Math.abs(this.X(mark.x[axis]) - px) > 6) continue;
        const note = document.createElement("div");
        note.className = "mark";
        note.textContent = mark.text;
        this.tip.append(note);
      }
      this.tip.hidden = false;
      const width = this.tip.offsetWidth, box = this.upper.clientWidth;
      const left = px + 14 + width > box ? px - 14 - width : px + 14;
      this.tip.style.left = `${Math.max(0, Math.min(left, box - width))}px`;
    }
  }

  const groups = [];
  function begin() {
    const found = [...document.querySelectorAll("figure.chart")].map((figure) => new Chart(figure));
    const shared = new Map();
    for (const chart of found) {
      const box = chart.figure.closest(".charts");
      const key = box || chart.figure;
      if (!shared.has(key)) shared.set(key, [box, []]);
      shared.get(key)[1].push(chart);
    }
    for (const [box, charts] of shared.values()) groups.push(new Group(box, charts));
    const all = () => { for (const group of groups) group.draw(); };
    all();
    let width = window.innerWidth;
    new ResizeObserver(() => {
      if (window.innerWidth !== width) { width = window.innerWidth; all(); }
    }).observe(document.documentElement);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
    window.addEventListener("beforeprint", () => { document.documentElement.dataset.scheme = "light"; all(); });
    window.addEventListener("afterprint", () => { delete document.documentElement.dataset.scheme; all(); });
    document.addEventListener("toggle", (event) => { // charts in what was closed had no size
      if (event.target.open && event.target.querySelector("figure.chart")) all();
    }, true);
  }
  begin();
})();
