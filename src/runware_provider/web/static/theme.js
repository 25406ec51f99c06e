"use strict";
// Before the first paint, so that a page never flashes in the wrong colours.
(() => {
  let theme = null;
  try { theme = localStorage.getItem("theme"); } catch { /* forbidden: as the system has it */ }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
})();
