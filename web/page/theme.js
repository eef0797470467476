/** Runs before the page is drawn, so that a chosen theme doesn't flash. Without a choice the system's holds. */
try {
  const theme = localStorage.getItem("hpcm-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // storage may be forbidden; the system's theme holds
}
