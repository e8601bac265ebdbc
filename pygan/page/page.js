"use strict";
// What a page does besides charts: where one is, timelines, enlarged pictures, filters, copied commands.
(() => {
  const links = new Map([...document.querySelectorAll(".bar a")].map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
  const sections = [...links.keys()].map((id) => document.getElementById(id));
  function here() {
    const line = window.innerHeight * 0.3;
    let now = sections[0];
    for (const section of sections) if (section.getBoundingClientRect().top < line) now = section;
    if (window.innerHeight + window.scrollY >= document.body.scrollHeight - 4) now = sections[sections.length - 1];
    for (const [id, link] of links) {
      const is = now && id === now.id;
      if (is && !link.classList.contains("here")) {
        const box = link.parentElement;
        box.scrollTo({ left: link.offsetLeft - box.offsetLeft - box.clientWidth / 2 + link.offsetWidth / 2 });
      }
      link.classList.toggle("here", is);
      if (is) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    }
  }
  if (sections.length) {
    document.addEventListener("scroll", here, { passive: true });
    here();
  }

  // Small pictures are shown by their pixels, not blurred.
  function pixels(img) {
    const mark = () => img.classList.toggle("small-pixels", img.naturalWidth > 0 && img.naturalWidth <= 128);
    img.addEventListener("load", mark);
    if (img.complete) mark();
  }
  document.querySelectorAll(".zoom img").forEach(pixels);
  // A small grid is shown twice as large.
  document.querySelectorAll(".lanes img").forEach((img) => img.addEventListener("load", () => {
    img.style.width = img.naturalWidth <= 420 ? `${2 * img.naturalWidth}px` : "";
    img.style.imageRendering = img.naturalWidth <= 420 ? "pixelated" : "";
  }));

  for (const box of document.querySelectorAll(".timeline")) {
    const data = JSON.parse(box.querySelector(':scope > script[type="application/json"]').textContent);
    const slider = box.querySelector("input"), output = box.querySelector("output"), play = box.querySelector(".play");
    const figures = [...box.querySelectorAll("figure")];
    const show = () => {
      const now = data.times[Number(slider.value)];
      output.textContent = `${now.toLocaleString("en")} ${data.unit}`;
      slider.setAttribute("aria-valuetext", output.textContent);
      figures.forEach((figure, k) => {
        const lane = data.lanes[k];
        let i = -1;
        while (i + 1 < lane.times.length && lane.times[i + 1] <= now) i++;
        const img = figure.querySelector("img");
        img.style.visibility = i < 0 ? "hidden" : "";
        if (i >= 0 && img.dataset.i !== String(i)) { img.src = lane.frames[i]; img.dataset.i = i; }
        const note = i < 0 ? "nothing yet" : lane.times[i] !== now ? `at ${lane.times[i].toLocaleString("en")}` : "";
        figure.querySelector("figcaption span").textContent = note;
      });
    };
    let timer = 0;
    const stop = () => { clearInterval(timer); timer = 0; play.textContent = "Play"; };
    play.addEventListener("click", () => {
      if (timer) { stop(); return; }
      if (Number(slider.value) >= Number(slider.max)) { slider.value = 0; show(); }
      play.textContent = "Pause";
      timer = setInterval(() => {
        slider.value = Number(slider.value) + 1;
        show();
        if (Number(slider.value) >= Number(slider.max)) stop();
      }, Math.max(80, Math.min(500, 8000 / data.times.length)));
    });
    slider.addEventListener("input", () => { stop(); show(); });
    // The arrow keys of the slider itself, wherever in the timeline the focus is.
    box.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || event.target === slider) return;
      event.preventDefault();
      stop();
      slider.value = Number(slider.value) + by;
      show();
    });
    show();
  }

  const dialog = document.getElementById("large");
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest(".zoom");
    if (!button) return;
    const from = button.querySelector("img"), to = dialog.querySelector("img");
    to.src = from.src;
    to.alt = from.alt;
    const factor = Math.max(1, Math.floor(Math.min(window.innerWidth * 0.85 / from.naturalWidth, window.innerHeight * 0.78 / from.naturalHeight)));
    to.style.width = from.naturalWidth <= 128 ? `${from.naturalWidth * factor}px` : "";
    to.classList.toggle("small-pixels", from.naturalWidth <= 128);
    dialog.querySelector("p").textContent = from.alt;
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.closest("button")) dialog.close(); });

  for (const box of document.querySelectorAll(".filtered")) {
    const rows = [...document.getElementById(box.dataset.table).tBodies[0].rows];
    const search = box.querySelector("input[type=search]"), marks = [...box.querySelectorAll("[data-only]")];
    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const fits = words.every((word) => text.includes(word)) && marks.every((m) => !m.checked || row.classList.contains(m.dataset.only));
        row.hidden = !fits;
        count += fits;
      }
      box.querySelector("output").textContent = count === rows.length ? "" : `${count} of ${rows.length}`;
    };
    search.addEventListener("input", apply);
    for (const mark of marks) mark.addEventListener("change", apply);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // no permission, or an old browser
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      await copy(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }
})();
