// What changed since a day or a release of the board: `?since=2026-01-31`. Without this all days stand.
(() => {
  const tools = document.querySelector(".since"), day = tools.querySelector("input"), release = tools.querySelector("select"), said = tools.querySelector(".count");
  const days = [...document.querySelectorAll(".day")];
  const words = [["new row", "new rows"], ["row with further seeds", "rows with further seeds"], ["retraction", "retractions"], ["raised version", "raised versions"]];
  const show = () => {
    const asked = new URLSearchParams(location.search).get("since") || "", since = /^\d{4}-\d\d-\d\d$/.test(asked) ? asked : "";
    day.value = since;
    if (release) release.value = [...release.options].some(o => o.value === since) ? since : "";
    const shown = days.filter(d => !(d.hidden = d.dataset.day < since)), sums = words.map((_, i) => shown.reduce((n, d) => n + +d.dataset.n.split(" ")[i], 0));
    said.textContent = sums.map((n, i) => n && `${n} ${words[i][+(n !== 1)]}`).filter(Boolean).join(", ") || "nothing";
  };
  const go = since => { history.pushState(null, "", since ? `?since=${since}` : location.pathname.split("/").pop()); show(); };
  day.onchange = () => go(day.value);
  if (release) release.onchange = () => go(release.value);
  tools.querySelector("button").onclick = () => go("");
  addEventListener("popstate", show);
  tools.hidden = false;
  show();
})();
