// The theme asks for the whole index of its search and starts a worker on every first visit. Both wait here until somebody turns to the
// search: the request of the index is sent then, and the worker is made then. From a folder nothing travels, and nothing waits.
(() => {
  if (location.protocol === "file:") return;
  const turned = new Promise(go => {
    const go_on = e => { if (e.target.closest?.(".md-search, [for=__search]") || (e.type === "keydown" && /^[fs/]$/.test(e.key))) go(); };
    for (const e of ["focusin", "pointerdown", "keydown"]) addEventListener(e, go_on, {capture: true, passive: true});
    if (new URLSearchParams(location.search).has("q")) go();
  });
  const send = XMLHttpRequest.prototype.send, open = XMLHttpRequest.prototype.open;
  const late = new WeakSet();
  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    if (/\/search\/search_index\.json$/.test(url)) late.add(this);
    return open.call(this, method, url, ...rest);
  };
  XMLHttpRequest.prototype.send = function (...body) {
    late.has(this) ? turned.then(() => send.apply(this, body)) : send.apply(this, body);
  };
  const Now = window.Worker;
  window.Worker = class extends EventTarget {
    constructor(url, ...rest) {
      if (!/\/workers\/search\./.test(url)) return new Now(url, ...rest);
      super();
      this.made = turned.then(() => {
        const worker = new Now(url, ...rest);
        worker.onmessage = e => this.dispatchEvent(new MessageEvent("message", {data: e.data}));
        return worker;
      });
    }
    postMessage(...words) { this.made.then(worker => worker.postMessage(...words)); }
    terminate() { this.made.then(worker => worker.terminate()); }
  };
})();
