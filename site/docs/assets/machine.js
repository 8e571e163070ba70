// Timings of another machine: who picks one sees its numbers in every ranking that it weighed. State in the address: `machine=CARD-DEVICE`.
(() => {
  const box = document.querySelector(".machine[data-machines]"), sections = [...document.querySelectorAll(".target[data-machines]")];
  if (!box || !sections.length) return;
  const timed = {}, own = new Map(), {keep} = window.weighin;
  let known = {};
  window.weighin.timed = (id, told) => { timed[id] = told; };
  window.weighin.machines = told => { known = told; };
  // a page from a folder may load scripts and nothing else
  const load = src => new Promise((done, failed) => document.head.append(Object.assign(document.createElement("script"), {src, onload: done, onerror: failed})));
  const make = (tag, properties = {}, ...inside) => { const e = Object.assign(document.createElement(tag), properties); e.append(...inside); return e; };
  const note = make("span", {className: "count"}); note.setAttribute("aria-live", "polite");
  const pick = make("select", {}), find = make("input", {type: "search", placeholder: "processor, GPU, card"}), mine = make("button", {type: "button", textContent: "like mine"});
  find.setAttribute("aria-label", "Filter machines");
  const places = () => [...new Map(sections.flatMap(s => timed[s.id]?.places ?? []).map(p => [p.join("-"), p])).values()];
  const words = ([card, device]) => `${known[card]?.[0] ?? "a machine"} · ${card.slice(0, 4)}${device === "cpu" ? "" : `, ${device}`}`;
  const fill = () => {
    const word = find.value.toLowerCase(), chosen = window.weighin.state.get("machine") || "";
    const shown = places().filter(p => words(p).toLowerCase().includes(word) || p.join("-") === chosen);
    pick.replaceChildren(new Option("each ranking’s own machine", ""), ...shown.map(p => new Option(words(p), p.join("-"))));
    pick.value = chosen;
  };
  const cellsOf = row => { const all = [...row.cells], at = all.findIndex(c => c.matches(".fact")); return {fact: all[at], bar: all[at - 1], rest: all.slice(at + 1, -1)}; };
  const show = () => {
    const chosen = window.weighin.state.get("machine") || "";
    let without = 0;
    sections.forEach(section => {
      const told = timed[section.id], at = told ? told.places.findIndex(p => p.join("-") === chosen) : -1;
      if (chosen && at < 0) without++;
      section.querySelectorAll(".board:not(.small) tr[data-v]").forEach(row => {
        const {fact, bar, rest} = cellsOf(row);
        if (!fact) return;
        if (!own.has(row)) own.set(row, {v: row.dataset.v, html: [bar, fact, ...rest].map(c => c.innerHTML)});
        const kept = own.get(row);
        if (!chosen || at < 0 || chosen === section.dataset.place) {
          [bar, fact, ...rest].forEach((c, i) => { c.innerHTML = kept.html[i]; });
          row.dataset.v = kept.v;
          return;
        }
        const cells = told.rows[row.dataset.m]?.[at] || [], v = JSON.parse(kept.v);
        const [value, text] = cells[0] || [null, ""], [first, ...more] = text.split(" ");
        bar.replaceChildren();
        fact.replaceChildren(...text ? [make("b", {textContent: first}), make("small", {textContent: ` ${more.join(" ")}`})] : [make("span", {className: "tag off", textContent: "not weighed on this machine"})]);
        v.s = value;
        rest.forEach((c, i) => { const cell = cells[i + 1]; c.textContent = cell ? cell[1] : "–"; v[`x${i}`] = cell ? cell[0] : null; });
        row.dataset.v = JSON.stringify(v);
      });
      section.classList.toggle("elsewhere", !!chosen && at >= 0 && chosen !== section.dataset.place);
      section.dispatchEvent(new Event("timed"));
    });
    note.textContent = !chosen ? "" : `Timings of ${words(chosen.split(/-(?=[^-]*$)/))}${without ? `; not weighed there: ${without} of ${sections.length} rankings here` : ""}. Charts, budgets and what the tables do not hold stay those of each ranking’s own machine.`;
  };
  const choose = async value => {
    value ? window.weighin.state.set("machine", value) : window.weighin.state.delete("machine");
    await ready(); fill(); show(); keep();
  };
  let loading;
  const ready = () => loading ??= Promise.all([load(box.dataset.machines), ...sections.map(s => load(s.dataset.machines))]).then(fill, () => { note.textContent = "The timings of other machines did not load."; });
  // cores and GPU are all that a browser tells of its machine
  const likest = () => {
    const gl = document.createElement("canvas").getContext("webgl"), asks = gl?.getExtension("WEBGL_debug_renderer_info");
    const gpu = asks ? String(gl.getParameter(asks.UNMASKED_RENDERER_WEBGL)).toLowerCase() : "", cores = navigator.hardwareConcurrency;
    const score = ([card]) => { const [, n, , name] = known[card] ?? []; return 4 * !!(name && gpu.includes(name.toLowerCase().replace("nvidia ", ""))) - 2 * !!(name && !gpu.includes(name.toLowerCase().replace("nvidia ", ""))) - Math.abs(Math.log2((n || 1) / (cores || 1))); };
    return places().sort((a, b) => score(b) - score(a))[0];
  };
  pick.onfocus = ready; pick.onpointerdown = ready;
  pick.onchange = () => choose(pick.value);
  find.oninput = () => ready().then(fill);
  mine.onclick = () => ready().then(() => { const p = likest(); if (p) choose(p.join("-")); });
  box.append(make("label", {}, "Timed on ", pick), " ", find, " ", mine, " ", note);
  fill();
  if (window.weighin.state.get("machine")) choose(window.weighin.state.get("machine"));
  sections.forEach(s => s.addEventListener("rows", () => { if (window.weighin.state.get("machine")) show(); }));
  addEventListener("popstate", () => { if (loading) { fill(); show(); } });
})();
