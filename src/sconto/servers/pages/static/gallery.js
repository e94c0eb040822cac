// The hub's side of a frame. The frame may ask that an offer be clipped; that only opens the hub's
// own dialog. Nothing that a frame says clips anything by itself.
"use strict";
(() => {
  const iframe = document.querySelector("iframe.frame");
  const dialog = document.querySelector("dialog#clip");
  if (!iframe || !dialog) return;
  let port = null;

  window.addEventListener("message", (event) => {
    // The frame's origin is opaque ("null") and proves nothing: only its window does.
    if (event.source !== iframe.contentWindow || port) return;
    const said = event.data;
    if (!said || said.jsonrpc !== "2.0" || said.method !== "sconto.frame.ready") return;
    const channel = new MessageChannel();
    port = channel.port1;
    port.onmessage = (message) => receive(message.data);
    event.source.postMessage(
      { jsonrpc: "2.0", id: said.id, result: { upgrade: { port: true } } }, "*", [channel.port2]);
  });

  function receive(said) {
    if (!said || said.jsonrpc !== "2.0") return;
    if (said.method === "sconto.frame.clip_request") ask(String(said.params?.promotion_id ?? ""), said.id);
    else if (said.id !== undefined) {
      port.postMessage({ jsonrpc: "2.0", id: said.id, error: { code: -32601, message: "not_supported_error" } });
    }
  }

  function ask(promotionId, id) {
    const card = [...document.querySelectorAll("[data-promotion]")]
      .find((one) => one.dataset.promotion === promotionId);
    if (!card || dialog.open) {
      port.postMessage({ jsonrpc: "2.0", id, error: { code: -32602, message: "abort_error" } });
      return;
    }
    dialog.querySelector("[data-title]").textContent = card.querySelector("h3").textContent;
    const form = dialog.querySelector("form");
    form.elements.promotion_id.value = promotionId;
    form.elements.clip_id.value = card.querySelector("[name=clip_id]").value;
    dialog.showModal();
    port.postMessage({ jsonrpc: "2.0", id, result: { asked: true } });
  }

  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
})();
