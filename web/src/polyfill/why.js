const FOREIGN =
  "its server is away, or doesn't let this page read it (Access-Control-Allow-Origin), or the page's policy forbids it (connect-src)";

/** Why a file can't be fetched. A browser tells a page nothing of other servers. @param {string} url @param {Error} error */
export function whyNot(url, error) {
  if (navigator.onLine === false) return "it can't be fetched: the browser is offline";
  const foreign = new URL(url).origin !== location.origin && error instanceof TypeError;
  return foreign ? `it can't be fetched: ${FOREIGN}` : `it can't be fetched: ${error.message}`;
}
