"""How a hub serves a frame: content types, and the policy that keeps it in its sandbox.

`Content-Security-Policy` alone leaves two ways out, both seen in Chromium 156: the frame can
navigate itself to an address that carries what it knows, and WebRTC asks any STUN server. The
second header, `Connection-Allowlist`, closes both there. For other browsers, a page that embeds
frames names the frames' origin in its own `frame-src`, which closes the first.
"""

from sconto.frames.model import Manifest, Resource

#: Value of the `Connection-Allowlist` header of every resource of a frame (WICG): its own origin.
CONNECTION_ALLOWLIST = "(response-origin)"


def content_type(resource: Resource) -> str:
    """The `Content-Type` to serve a resource with: text is UTF-8, whatever a page says."""
    text = resource.type.startswith("text/") or resource.type == "image/svg+xml"
    return resource.type + ("; charset=utf-8" if text else "")


def frame_csp(manifest: Manifest, *, served_at: str, frame_ancestors: str) -> str:
    """The `Content-Security-Policy` to serve every resource of the frame with.

    `served_at` is the absolute URL of the folder, `https://frames.hub.example/frames/<key>/`;
    `frame_ancestors` the origins that may embed it, separated by spaces. `sandbox` stands in the
    header as well, so that the frame keeps its opaque origin when somebody opens it directly.

    Scripts are the frame's own files, by place or by digest; inline script does not run. Inline
    style does: it is signed, static, and there is no network that it could tell anything to. The
    merchant's own `csp` follows as a second policy: a browser enforces both, so it cannot loosen.
    """
    scripts = [r for r in manifest.resources if r.type == "text/javascript"]
    by_digest = " ".join(f"'sha256-{r.digest[9:-1]}'" for r in scripts)
    policy = "; ".join(
        (
            "sandbox allow-scripts",
            "default-src 'none'",
            f"script-src {served_at} {by_digest}".rstrip() if scripts else "script-src 'none'",
            f"style-src 'unsafe-inline' {served_at}",
            f"img-src {served_at} data:",
            f"font-src {served_at}",
            "form-action 'none'",
            "base-uri 'none'",
            f"frame-ancestors {frame_ancestors}",
        )
    )
    return policy if manifest.csp is None else f"{policy}, {manifest.csp}"
