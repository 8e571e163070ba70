// Sorting, filtering and linked marks. All of it is extra: the tables and charts stand in the page without it.
(() => {
  let state = new URLSearchParams(location.search);
  const keep = () => history.replaceState(null, "", (state.size ? "?" + state : location.pathname.split("/").pop()) + location.hash);
  window.weighin = {get state() { return state; }, keep}; // one state for all scripts of a page
  // a page from a folder can load scripts alone: this is what such a script calls
  window.weighin.rows = (id, ranked, unranked) => document.getElementById(id)?.dispatchEvent(new CustomEvent("rows", {detail: {ranked, unranked}}));
  const restored = [];
  document.querySelectorAll(".target").forEach((section, at) => {
    const table = section.querySelector(".board:not(.small)"), tools = section.querySelector(".tools");
    if (!table || !tools) return;
    const body = table.tBodies[0];
    let all = [], first = [], rows = [];
    const light = (key, on) => section.querySelectorAll(`svg [data-m="${CSS.escape(key)}"]`).forEach(p => p.classList.toggle("lit", on));
    const listen = r => {
      for (const e of ["pointerenter", "focusin"]) r.addEventListener(e, () => light(r.dataset.m, true));
      for (const e of ["pointerleave", "focusout"]) r.addEventListener(e, () => light(r.dataset.m, false));
    };
    // rows in the order of the page; called again where more of them have come
    const collect = () => {
      all = [...body.rows]; first = [...all];
      const met = new Set(rows.map(x => x.r));
      rows = all.filter(r => r.dataset.v).map(r => ({r, v: JSON.parse(r.dataset.v), why: r.nextElementSibling?.matches(".why") ? r.nextElementSibling : null}));
      rows.filter(x => !met.has(x.r)).forEach(x => listen(x.r));
    };
    collect();
    const heads = [...table.querySelectorAll("th[data-sort]")];
    const sort = spec => {
      const key = heads.some(h => h.dataset.sort === spec.replace("-", "")) ? spec.replace("-", "") : "", down = spec[0] === "-";
      heads.forEach(h => h.dataset.sort === key ? h.setAttribute("aria-sort", down ? "descending" : "ascending") : h.removeAttribute("aria-sort"));
      table.classList.toggle("sorted", !!key); // lanes join neighbours by rank: they say nothing in another order
      if (!key) return body.append(...first);
      const n = x => x.v[key] ?? (down ? -Infinity : Infinity);
      const ordered = out => rows.filter(x => x.v.k !== "parent" && x.r.matches(".out") === out)
        .sort((a, b) => down ? n(b) - n(a) : n(a) - n(b)).flatMap(x => x.why ? [x.r, x.why] : [x.r]);
      // the parent stays first, and what is not ranked stays below the ranked
      body.prepend(...rows.filter(x => x.v.k === "parent").map(x => x.r), ...ordered(false),
        ...all.filter(r => r.matches(".divider")), ...ordered(true));
    };
    const show = () => {
      const word = tools.querySelector("input").value.toLowerCase();
      const on = [...tools.querySelectorAll("[aria-pressed=true]")].map(b => b.dataset.toggle);
      let shown = 0;
      rows.forEach(x => {
        const ok = x.v.k === "parent" || (x.v.n.toLowerCase().includes(word) && (!on.includes("paper") || x.v.k === "paper") && (!on.includes("fast") || x.v.s > 1.02));
        x.r.hidden = !ok; if (x.why) x.why.hidden = !ok;
        x.r.style.display = ok ? "" : "none"; if (x.why) x.why.style.display = ok ? "" : "none";
        shown += ok && x.v.k !== "parent";
      });
      tools.querySelector(".count").textContent = `${shown} of ${rows.filter(x => x.v.k !== "parent").length} rows`;
    };
    heads.forEach(h => {
      const b = document.createElement("button"); b.type = "button"; b.append(...h.childNodes); h.append(b);
      b.onclick = () => { const k = h.dataset.sort, now = state.get(`t${at}.sort`), next = now === "-" + k ? k : now === k ? "" : "-" + k;
        next ? state.set(`t${at}.sort`, next) : state.delete(`t${at}.sort`); sort(next); keep(); };
    });
    tools.hidden = false;
    tools.querySelector("input").oninput = e => { e.target.value ? state.set(`t${at}.find`, e.target.value) : state.delete(`t${at}.find`); show(); keep(); };
    tools.querySelectorAll("[data-toggle]").forEach(b => b.onclick = () => { b.setAttribute("aria-pressed", b.getAttribute("aria-pressed") !== "true"); show(); });
    restored.push(() => {
      tools.querySelector("input").value = state.get(`t${at}.find`) || "";
      sort(state.get(`t${at}.sort`) || ""); show();
    });
    section.addEventListener("timed", () => {
      rows.forEach(x => { x.v = JSON.parse(x.r.dataset.v); });
      sort(state.get(`t${at}.sort`) || ""); show();
    });
    const more = section.querySelector(".more[data-rows]");
    if (more) {
      const b = Object.assign(document.createElement("button"), {type: "button", textContent: "show them here"});
      b.onclick = () => document.head.append(Object.assign(document.createElement("script"), {src: more.dataset.rows, onerror: () => { b.textContent = "they did not load"; }}));
      more.append(" ", b);
      section.addEventListener("rows", e => {
        sort("");
        const made = html => { const t = document.createElement("template"); t.innerHTML = html; return t.content; };
        const divider = body.querySelector(".divider"), failed = body.querySelector(".failed");
        body.insertBefore(made(e.detail.ranked), divider);
        body.insertBefore(made(e.detail.unranked), failed);
        more.remove(); collect();
        sort(state.get(`t${at}.sort`) || ""); show();
      });
    }
  });
  const restore = () => restored.forEach(r => r());
  restore();
  addEventListener("popstate", () => { state = new URLSearchParams(location.search); restore(); });
  // who follows an address of before cases had pages of their own is led on: to a ranking, or to a row of it
  const aim = () => { try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; } };
  const lead = () => {
    const wanted = aim();
    const line = wanted && [...document.querySelectorAll(".overview tr[data-page]")].find(r => wanted === r.id || wanted.startsWith(`r-${r.id}-`));
    if (line) location.replace(new URL(line.dataset.page, location.href).href.split("#")[0] + location.search + location.hash);
  };
  lead(); addEventListener("hashchange", lead);
  // who follows a link to a folded ranking wants to see it
  const unfold = () => { const d = location.hash && document.getElementById(aim())?.querySelector(":scope > .aside"); if (d) d.open = true; };
  addEventListener("hashchange", unfold); unfold();
  // two pictures of a place over each other, parted by a slider; without this they all stand side by side
  document.querySelectorAll(".gallery").forEach(gallery => {
    const tools = gallery.querySelector(".tools"), scenes = [...gallery.querySelectorAll(".scene")];
    const picks = ["left", "right"].map(side => {
      const pick = tools.querySelector(`[name=${side}]`);
      scenes[0].querySelectorAll("figure").forEach(f => pick.add(new Option(f.querySelector(".name").textContent, f.dataset.k)));
      pick.value = gallery.dataset[side];
      return pick;
    });
    const redraws = scenes.map(scene => {
      const shots = scene.querySelector(".shots"), stage = document.createElement("div");
      stage.className = "stage";
      stage.innerHTML = '<img class="under" loading="lazy"><img class="over" loading="lazy"><span class="left"></span><span class="right"></span><input type="range" min="0" max="100" value="50">';
      const images = [...stage.querySelectorAll("img")], words = [...stage.querySelectorAll("span")], slider = stage.querySelector("input");
      slider.oninput = () => stage.style.setProperty("--cut", `${slider.value}%`);
      shots.before(stage); shots.hidden = true;
      return () => {
        const figures = picks.map(p => scene.querySelector(`figure[data-k="${CSS.escape(p.value)}"]`));
        figures.forEach((f, i) => {
          const from = f?.querySelector("img");
          images[i].hidden = !from;
          if (from) { images[i].src = from.src; images[i].alt = from.alt; for (const side of ["width", "height"]) images[i].setAttribute(side, from.getAttribute(side)); }
          words[i].textContent = f ? f.querySelector("figcaption").textContent.trim().replace(/\s+/g, " ") : "no picture here";
        });
        slider.setAttribute("aria-label", `divide between ${words[0].textContent}, left, and ${words[1].textContent}, right`);
      };
    });
    const redraw = () => redraws.forEach(r => r());
    picks.forEach(p => p.onchange = redraw);
    tools.hidden = false; redraw();
  });
  // a chart whose marks have words for who points at them is a stop of the Tab key; arrows go from mark to mark, a tap tells one
  const readable = svg => {
    const marks = [...svg.querySelectorAll(":scope * > title")];
    if (!marks.length) return;
    const said = document.createElement("p");
    const words = mark => { // a dot's, after the name of the row that it is in
      const row = mark.parentNode.parentNode.querySelector(":scope > .label"), name = row && (row.querySelector("title") ?? row);
      return (name && !row.contains(mark) ? `${name.textContent}: ` : "") + mark.textContent;
    };
    let at = -1;
    const tell = next => {
      marks[at]?.parentNode.classList.remove("lit");
      at = next;
      marks[at]?.parentNode.classList.add("lit");
      said.textContent = marks[at] ? words(marks[at]) : `← → for each of ${marks.length} marks`;
    };
    said.className = "note said"; said.setAttribute("aria-live", "polite");
    svg.tabIndex = 0;
    svg.onfocus = () => { svg.after(said); tell(at); };
    svg.onblur = () => { tell(-1); said.remove(); };
    svg.onclick = e => tell(marks.findIndex(m => m.parentNode.contains(e.target)));
    svg.onkeydown = e => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[e.key];
      if (!step) return;
      e.preventDefault();
      tell(at < 0 ? (step > 0 ? 0 : marks.length - 1) : (at + step + marks.length) % marks.length);
    };
  };
  document.querySelectorAll("svg[role=img]:not([data-drawn])").forEach(readable);
  // of a heavy page most charts stand in files beside it: all of a file come when one is about to be seen, or the page to be printed
  const fileOf = svg => svg.dataset.drawn.split("#")[0], asked = new Set();
  const fetchOf = svg => {
    const src = fileOf(svg);
    if (asked.size === asked.add(src).size) return;
    document.head.append(Object.assign(document.createElement("script"), {src, onerror: () => asked.delete(src)}));
  };
  const near = new IntersectionObserver(found => found.filter(f => f.isIntersecting && f.target.dataset.drawn).forEach(f => fetchOf(f.target)), {rootMargin: "600px"});
  const waiting = () => document.querySelectorAll("svg[data-drawn]");
  waiting().forEach(svg => near.observe(svg));
  addEventListener("beforeprint", () => waiting().forEach(fetchOf));
  window.weighin.drawn = (name, parts) => {
    const filled = [...waiting()].filter(svg => fileOf(svg).endsWith(`/${name}`));
    filled.forEach(svg => {
      svg.insertAdjacentHTML("beforeend", parts[svg.dataset.drawn.split("#")[1]]);
      near.unobserve(svg); svg.removeAttribute("data-drawn"); readable(svg);
    });
    new Set(filled.map(svg => svg.closest(".target"))).forEach(section => section?.dispatchEvent(new Event("drawn")));
  };
  // what the theme leaves without a name
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  // a table that is wider than its place can be scrolled by keys, under the name of the heading above it
  const wide = new ResizeObserver(found => found.forEach(({target: box}) => {
    const names = ["tabindex", "role", "aria-label"];
    if (box.scrollWidth <= box.clientWidth) return names.forEach(n => box.removeAttribute(n));
    let head = box;
    while (head && !/^H[1-6]$/.test(head.tagName)) head = head.previousElementSibling ?? head.parentElement;
    const values = ["0", "group", `${head?.textContent.trim().replace(/\s+/g, " ") ?? ""}, table`];
    names.forEach((n, i) => box.setAttribute(n, values[i]));
  }));
  addEventListener("load", () => document.querySelectorAll(".scroll,.speeds,.md-typeset__scrollwrap").forEach(box => wide.observe(box)));
})();
