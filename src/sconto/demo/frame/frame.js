// A frame may ask the hub's page to let the shopper clip; the hub asks the shopper itself.
"use strict";
(() => {
  let port = null;
  window.addEventListener("message", (event) => {
    if (event.source !== parent || port || !event.ports.length) return;
    port = event.ports[0];
    port.onmessage = () => {};
  });
  parent.postMessage({ jsonrpc: "2.0", id: 1, method: "sconto.frame.ready", params: {} }, "*");
  for (const button of document.querySelectorAll("button[data-promotion]")) {
    button.addEventListener("click", () => {
      if (!port) return;
      port.postMessage({
        jsonrpc: "2.0", id: 2, method: "sconto.frame.clip_request",
        params: { promotion_id: button.dataset.promotion },
      });
    });
  }
})();
