/** Rows of buttons of which one is on: radio groups and tabs. */

/** Buttons of which one is on, with arrow keys as radio buttons have them. */
export function group(box, value, changed) {
  const buttons = [...box.querySelectorAll("button")];
  const set = (button) => {
    for (const one of buttons) {
      one.setAttribute("role", "radio");
      one.setAttribute("aria-checked", String(one === button));
      one.tabIndex = one === button ? 0 : -1;
    }
  };
  set(buttons.find((button) => button.dataset.value === value) ?? buttons[0]);
  box.onclick = (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    set(button);
    changed(button.dataset.value);
  };
  box.onkeydown = (event) => arrows(event, buttons);
}

/** Arrow keys go from one of the buttons to the next and press it. */
export function arrows(event, buttons) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation();
  const there = buttons.filter((button) => !button.hidden);
  const next = there[(there.indexOf(document.activeElement) + step + there.length) % there.length];
  next.focus();
  next.click();
}
