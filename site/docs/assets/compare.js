// Two to five methods side by side, from `weighinCompare` (suite/board/comparing.py says what its columns are); the choice stands in the
// address as `?m=NAME&m=NAME`, each change of it a step that the back button takes back.
(() => {
  const MOST = 5, {methods, rankings, rows} = weighinCompare, box = document.querySelector(".compare");
  const [picked, said, side] = [".picked", ".said", ".side"].map(s => box.querySelector(s)), add = box.querySelector("select"), both = box.querySelector("input");
  const make = (tag, properties = {}, ...inside) => { const e = Object.assign(document.createElement(tag), properties); e.append(...inside); return e; };
  const index = new Map(methods.map(([name], i) => [name, i])), cells = new Map(rows.map(r => [`${r[0]} ${r[1]}`, r]));
  const stands = methods.map(() => new Set()); rows.forEach(r => stands[r[1]].add(r[0]));
  [...new Set(rankings.map(r => r[0]))].forEach(task => {
    const group = make("optgroup", {label: task});
    methods.forEach(([name], i) => { if ([...stands[i]].some(r => rankings[r][0] === task)) group.append(new Option(name, name)); });
    add.append(group);
  });
  add.prepend(new Option("a method …", ""));

  const read = () => {
    const state = new URLSearchParams(location.search), names = [...new Set(state.getAll("m"))];
    return {names: names.filter(n => index.has(n)).slice(0, MOST), unknown: names.filter(n => !index.has(n)), both: state.get("both") === "1"};
  };
  const go = (names, both) => {
    const state = new URLSearchParams(names.map(n => ["m", n])); if (both) state.set("both", "1");
    history.pushState(null, "", state.size ? `?${state}` : location.pathname.split("/").pop());
    show();
    add.focus(); // the button that was pressed is gone
  };
  const cell = (r, best) => {
    if (!r) return [make("span", {className: "none"}, "–")];
    const [, , variant, more, q, half, change, speed, span, sure, worst, rank] = r, unit = rankings[r[0]][7];
    const like = best && r !== best && r[13] != null && r[12] <= best[13] && best[13] <= r[14];
    const line = (...parts) => make("span", {className: "line"}, ...parts);
    return [
      q && line(make(r === best ? "b" : "span", {}, q, unit && ` ${unit}`), make("small", {}, half && ` ${half}`, like ? " ≈" : "")),
      change && line(make("small", {}, "vs parent "), change),
      speed && line(make(sure ? "b" : "span", {}, speed), make("small", {}, span && ` ${span}`), " in fact"),
      worst && line(make("small", {}, "worst "), worst),
      line(make("small", {}, /^\d/.test(rank) ? `rank ${rank}` : rank)),
      (variant || more) && line(make("small", {}, variant || `and ${more} variant${more > 1 ? "s" : ""}`)),
    ].filter(Boolean);
  };
  const best = found => found.filter(r => r[13] != null).sort((a, b) => a[13] - b[13])[0];
  const table = (task, tier, shown, chosen) => {
    const head = make("tr", {}, make("th", {scope: "col"}, "case, target"), ...chosen.map(i => make("th", {scope: "col"}, make("a", {href: methods[i][1]}, methods[i][0]))));
    const body = make("tbody", {}, ...shown.map(at => {
      const r = rankings[at], found = chosen.map(i => cells.get(`${at} ${i}`)), first = best(found.filter(Boolean));
      const name = make("th", {scope: "row"}, make("a", {href: r[5]}, [r[2], r[3]].filter(Boolean).join(", ")), make("small", {}, [r[4] !== "closed" && r[4], r[6], r[8] && `${r[8]}${r[9] && ` on card ${r[9]}`}`].filter(Boolean).join(" · ")));
      return make("tr", {}, name, ...found.map((f, k) => { const td = make("td", {}, ...cell(f, first)); td.dataset.h = methods[chosen[k]][0]; return td; }));
    }));
    return [make("h2", {}, `${task} `, make("small", {}, tier)), make("div", {className: "scroll"}, make("table", {className: "plain besides"}, make("thead", {}, head), body))];
  };
  // in how many rankings each stands, is best of the compared or not told apart from it, and is surely faster
  const sums = (shown, chosen) => make("table", {className: "plain besides sums"},
    make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "of these rankings"), ...chosen.map(i => make("th", {scope: "col"}, methods[i][0])))),
    make("tbody", {}, ...[
      ["stands in", () => true],
      ["best, or not told apart from it", (r, b) => b && r[13] != null && r[12] <= b[13] && b[13] <= r[14]],
      ["surely faster in fact", r => r[9]],
    ].map(([word, counts]) => make("tr", {}, make("th", {scope: "row"}, word), ...chosen.map(i => {
      const n = shown.filter(at => { const r = cells.get(`${at} ${i}`); return r && counts(r, best(chosen.map(k => cells.get(`${at} ${k}`)).filter(Boolean))); }).length;
      const td = make("td", {}, String(n)); td.dataset.h = methods[i][0]; return td;
    })))));
  const show = () => {
    const state = read(), chosen = state.names.map(n => index.get(n));
    both.checked = state.both;
    picked.replaceChildren(...state.names.map(n => { const b = make("button", {type: "button", onclick: () => go(state.names.filter(m => m !== n), both.checked)}, n, " ✕"); b.setAttribute("aria-label", `leave out ${n}`); return b; }));
    add.disabled = chosen.length >= MOST; add.value = "";
    [...add.querySelectorAll("option[value]")].forEach(o => o.disabled = state.names.includes(o.value));
    // a parent stands everywhere: alone it says nothing, unless nothing else is asked
    const tells = chosen.filter(i => rows.some(r => r[1] === i && r[11] !== "the parent"));
    const some = rankings.map((_, at) => at).filter(at => (tells.length ? tells : chosen).some(i => stands[i].has(at))), every = some.filter(at => chosen.every(i => stands[i].has(at)));
    const shown = both.checked ? every : some, words = [];
    if (state.unknown.length) words.push(`No rows of ${state.unknown.join(", ")}.`);
    if (!chosen.length) words.push("Add a method.");
    else words.push(`${some.length} ranking${some.length === 1 ? "" : "s"}${chosen.length > 1 ? `, all of them in ${every.length}` : ""}.`);
    said.replaceChildren(words.join(" "));
    if (chosen.length === 1) {
      const near = methods.map((_, i) => [i, [...stands[i]].filter(at => stands[chosen[0]].has(at)).length]).filter(([i, n]) => n && i !== chosen[0]).sort((a, b) => b[1] - a[1]).slice(0, 6);
      said.append(" Stand beside it most often: ", ...near.flatMap(([i]) => [make("button", {type: "button", className: "near", onclick: () => go([...state.names, methods[i][0]], both.checked)}, methods[i][0]), " "]));
    }
    const tables = new Map();
    shown.forEach(at => { const key = rankings[at].slice(0, 2).join("\n"); tables.set(key, [...(tables.get(key) || []), at]); });
    side.style.setProperty("--many", Math.max(2, chosen.length));
    side.replaceChildren(...(chosen.length > 1 && shown.length ? [sums(shown, chosen)] : []), ...[...tables].flatMap(([key, found]) => table(...key.split("\n"), found, chosen)));
  };
  add.onchange = () => add.value && go([...read().names, add.value], both.checked);
  both.onchange = () => go(read().names, both.checked);
  addEventListener("popstate", show);
  box.hidden = false; document.querySelector(".compare-all").hidden = true;
  show();
})();
