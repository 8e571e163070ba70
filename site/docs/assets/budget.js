// A budget for each ranking: what must be gained, what may be lost. Rows beyond it fade, the answer stands in words, the state in the
// address: `b.NAME=` asks every ranking of the page, `b.ID.NAME=` the one whose section has that id.
(() => {
  const MIB = 2 ** 20, plus = new Intl.NumberFormat("en", {maximumSignificantDigits: 3});
  const times = v => `${Math.abs(v) >= 0.095 ? v.toFixed(2) : v.toPrecision(2)}×`;
  // round numbers from 0 or a first one to the last that parts the values, the strictest last
  const round = (low, high) => {
    const out = [];
    for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k++) for (const m of [1, 1.5, 2, 3, 5, 7.5]) out.push(+(m * 10 ** k).toPrecision(2));
    return out.filter(v => v >= low && v <= high);
  };
  const losses = values => {
    const most = Math.max(0, ...values.map(v => -v));
    return most ? [...round(most / 100, most).reverse(), 0] : [];
  };
  const speeds = values => {
    const high = Math.max(...values), low = Math.min(...values, 1), out = [];
    for (let v = Math.max(0.5, Math.ceil(low * 10) / 10); v <= Math.min(high, 2); v += 0.1) out.push(+v.toFixed(1));
    return [...out, ...round(2.01, Math.max(high, 2.02))];
  };
  const shares = values => {
    const low = Math.min(...values), high = Math.max(...values);
    return low && high / low > 1.02 ? round(low, high).reverse() : [];
  };
  // each: its name in the address, words of the slider and of the answer, the row's value and surer end, and whether these meet a bound
  const asks = asked => [
    {name: "speed", head: `speed in fact, at least (${asked.fact})`, of: b => b.s, stops: speeds, ok: (v, n) => v >= n, show: times, say: n => `at least ${n}× as fast in fact`},
    {name: "loss", head: `loses at most, ${asked.per}`, of: b => b.c, stops: losses, ok: (v, n) => v >= -n, show: plus.format, say: n => `at most ${n} ${per(asked, n)} lost`},
    ...asked.parts.map((word, i) => ({name: `worst${i || ""}`, head: `no ${word} loses more than, ${asked.per}`, of: b => b.w?.[i], stops: losses, ok: (v, n) => v >= -n, show: plus.format, say: n => `no ${word} losing more than ${n} ${per(asked, n)}`})),
    {name: "kept", head: "keeps at most, % of what is counted", of: b => b.p && [b.p], stops: shares, ok: (v, n) => v <= n * 1.01, show: plus.format, say: n => `at most ${n} % kept`},
  ];
  const orders = asked => [
    {name: "best", word: asked.best, of: b => asked.up ? b.q : -b.q},
    {name: "fast", word: "fastest in fact", of: b => b.s?.[0]},
    {name: "least", word: "keeps least of what is counted", of: b => b.p && -b.p},
    {name: "small", word: "smallest (weights in memory)", of: b => b.m && -b.m},
  ];
  const per = (asked, n) => n === 1 ? asked.per.replace(/s$/, "") : asked.per;
  const make = (tag, properties = {}, ...inside) => { const e = Object.assign(document.createElement(tag), properties); e.append(...inside); return e; };

  const restores = [...document.querySelectorAll(".budget")].map(place => {
    const section = place.closest(".target"), asked = JSON.parse(place.dataset.asked), unit = asked.unit ? ` ${asked.unit}` : "";
    const collect = () => [...section.querySelectorAll("tr[data-b]")].map(r => ({r, b: JSON.parse(r.dataset.b), n: JSON.parse(r.dataset.v).n,
      q: r.querySelector(".q").firstChild.textContent.trim(), why: r.nextElementSibling?.matches(".why") ? r.nextElementSibling : null}));
    let rows = collect();
    if (rows.length < 2) return () => {};
    section.addEventListener("rows", () => { rows = collect(); answer(); });
    section.addEventListener("drawn", () => answer()); // charts that come later fade, too
    const own = name => `b.${section.id}.${name}`;
    const read = name => weighin.state.get(own(name)) ?? weighin.state.get(`b.${name}`) ?? "";
    const write = (name, value) => {
      value || weighin.state.get(`b.${name}`) ? weighin.state.set(own(name), value) : weighin.state.delete(own(name));
      weighin.keep();
    };
    const sliders = asks(asked).map(a => {
      const values = rows.map(x => a.of(x.b)?.[0]).filter(v => v != null), stops = values.length ? a.stops(values) : [];
      const out = make("b"), slider = make("input", {type: "range", min: 0, step: 1, autocomplete: "off"});
      slider.setAttribute("aria-label", a.head);
      const label = make("label", {}, make("span", {}, a.head), out, slider), one = {...a, label, stops: ["", ...stops], value: ""};
      const tell = () => { out.textContent = one.value === "" ? "any" : a.show(+one.value); slider.setAttribute("aria-valuetext", out.textContent); };
      slider.oninput = () => { one.value = String(one.stops[slider.value]); tell(); write(a.name, one.value); answer(); };
      one.set = value => {
        one.value = value.trim() !== "" && isFinite(value) && +value >= 0 ? value : "";
        // a bound from an address need not be one of the round ones
        const strict = a.name === "speed" ? 1 : -1, known = new Set([...stops, ...(one.value === "" ? [] : [+one.value])]);
        one.stops = ["", ...[...known].sort((x, y) => strict * (x - y))];
        label.hidden = one.stops.length < 2; // nothing to part, and nothing asked
        slider.max = one.stops.length - 1;
        slider.value = one.value === "" ? 0 : one.stops.indexOf(+one.value);
        tell();
      };
      return one;
    });
    const known = orders(asked).filter(o => rows.some(x => o.of(x.b) != null));
    const by = make("select", {autocomplete: "off", onchange: () => { write("by", by.value === known[0].name ? "" : by.value); answer(); }});
    known.forEach(o => by.add(new Option(o.word, o.name)));
    const hide = make("input", {type: "checkbox", autocomplete: "off", onchange: () => { write("hide", hide.checked ? "1" : ""); answer(); }});
    const clear = make("button", {type: "button", textContent: "clear", onclick: () => { [...sliders.map(s => s.name), "by", "hide"].forEach(n => write(n, "")); restore(); }});
    const said = make("p", {className: "answer"}), box = make("details", {className: "fold"}, make("summary", {}, "Ask by a budget"),
      make("div", {className: "sliders"}, ...sliders.map(s => s.label)),
      make("div", {className: "asks"}, make("label", {}, "show ", by), make("label", {}, hide, " hide the others"), clear), said);
    said.setAttribute("aria-live", "polite");
    place.append(box);

    // 2: for certain; 1: by its value alone; 0: beyond. Where there is no interval the value is all there is.
    const grade = (b, bounds) => bounds.reduce((g, s) => {
      const [value, low] = s.of(b) ?? [];
      return Math.min(g, value == null || !s.ok(value, +s.value) ? 0 : s.ok(low ?? value, +s.value) ? 2 : 1);
    }, b.j ? 2 : 1);
    const told = x => [`${x.q}${unit}`, x.b.s && `at ${times(x.b.s[0])}`].filter(Boolean).join(" ");
    const answer = () => {
      const bounds = sliders.filter(s => s.value !== ""), order = known.find(o => o.name === by.value);
      rows.forEach(x => {
        x.g = grade(x.b, bounds);
        for (const e of [x.r, x.why, ...section.querySelectorAll(`svg [data-m="${CSS.escape(x.r.dataset.m)}"]`)]) {
          e?.classList.toggle("beyond", !!bounds.length && !x.g); e?.classList.toggle("perhaps", !!bounds.length && x.g === 1 && !!x.b.j);
        }
      });
      section.classList.toggle("narrowed", hide.checked && !!bounds.length);
      const better = (x, y) => order.of(y.b) - order.of(x.b) || known[0].of(y.b) - known[0].of(x.b);
      const within = g => rows.filter(x => x.g === g && order.of(x.b) != null).sort(better);
      const sure = within(2), mean = within(1), [first, ...others] = sure.length ? sure : mean;
      const head = [order.word[0].toUpperCase() + order.word.slice(1), ...bounds.map(s => s.say(+s.value))].join(", ");
      if (!first) return said.replaceChildren(`${head}: no row of ${rows.length}.`);
      const small = order.name === "small" ? `, ${plus.format(first.b.m / MIB)} MiB` : "", left = order.name === "least" ? `, ${plus.format(first.b.p)} % kept` : "";
      const like = others.filter(x => order.name === "best" ? first.b.j && x.b.j && x.b.j[0] <= first.b.j[1] && first.b.j[1] <= x.b.j[2]
        : order.name === "fast" ? x.b.s[1] != null && x.b.s[0] >= (first.b.s[1] ?? Infinity) : order.of(x.b) >= order.of(first.b) * 1.001);
      const alike = like.length ? ` ${order.name === "best" ? "Not told apart from it" : order.name === "fast" ? "Within its interval" : "As small"}: ${like.slice(0, 4).map(x => x.n).join(", ")}${like.length > 4 ? ` and ${like.length - 4} more` : ""}.` : "";
      said.replaceChildren(`${head}: `, ...(sure.length ? [] : ["none for certain; by their values alone "]), make("b", {}, first.n), `, ${told(first)}${small}${left}.${alike}`);
      if (bounds.length) {
        const more = sure.length && mean.length ? `, ${mean.length} more by their values alone (half faded)` : "";
        said.append(make("small", {}, ` ${sure.length || "None"} of ${rows.length} within it at the unfavourable ends of the 95 % intervals, where there are such${more}.`));
      }
      const names = [...new Set([first, ...others].map(x => x.b.n))].slice(0, 5), link = first.r.querySelector(".who a");
      if (names.length > 1 && bounds.length) said.append(" ", make("a", {href: new URL(`../compare.html?${new URLSearchParams(names.map(n => ["m", n]))}`, link.href).href}, "Compare side by side"));
    };
    const restore = () => {
      sliders.forEach(s => s.set(read(s.name)));
      by.value = known.some(o => o.name === read("by")) ? read("by") : known[0].name;
      hide.checked = read("hide") === "1";
      if ([...sliders.map(s => s.name), "by"].some(n => read(n))) box.open = true;
      answer();
    };
    return restore;
  });
  const all = () => restores.forEach(r => r());
  all();
  addEventListener("popstate", all);
})();
