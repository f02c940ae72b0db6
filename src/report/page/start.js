// Startup: applies the address and attaches handlers to the selectors.

if (bar) {
  bar.hidden = false;
  bar.addEventListener("submit", (event) => event.preventDefault());
  for (const element of all("select", bar)) {
    element.addEventListener("change", () => {
      if (element.id === "model") fillLayers(NaN);
      if (element.id === "emotion") markAll();
      else show();
      remember();
    });
  }
  for (const button of all("[data-step]", bar)) {
    button.addEventListener("click", () => {
      byId("layer").selectedIndex += Number(button.dataset.step);
      show();
      remember();
    });
  }
}
// The facts about the run are collapsed on screen and expanded in print.
const run = document.querySelector("details.run");
const fold = (open) => run && (run.open = open);
fold(false);
window.addEventListener("beforeprint", () => fold(true));
window.addEventListener("afterprint", () => fold(false));

for (const slot of slots) watch.observe(slot.element);
window.addEventListener("hashchange", follow);
window.addEventListener("keydown", (event) => event.key === "Escape" && hush());
fillLayers(NaN);
follow();
