// Theme, keyboard and the live stream; everything else is plain links and forms. No inline handlers: the CSP forbids them.
const root = document.documentElement, base = document.body.dataset.root, page = document.body.dataset.of;

// --- theme: the link works without this; here it follows what is seen, not what the cookie says
const theme = () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  document.cookie = `atlas_theme=${root.dataset.theme}; path=${base || "/"}; max-age=31536000; samesite=lax`;
};
document.getElementById("theme")?.addEventListener("click", event => { event.preventDefault(); theme(); });

// --- keyboard
const link = row => row.matches("a") ? row : row.querySelector("a");
const rows = () => [...document.querySelectorAll("main tbody tr, a.lane")].filter(link);
const here = () => rows().find(row => row.contains(document.activeElement));
const move = step => {
  const all = rows(), at = all.indexOf(here());
  const row = all[Math.max(0, Math.min(all.length - 1, at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step))];
  if (row) { link(row).focus({ preventScroll: true }); row.scrollIntoView({ block: "nearest" }); }
};
const act = what => {
  const to = here()?.dataset[what] ?? document.querySelector(`main [data-key=${what}]`)?.getAttribute("href");
  if (to) location.href = to;
};
let go = false;
const pages = { o: "", j: "jobs", t: "tasks", q: "queue", c: "config", s: "system" };
document.addEventListener("keydown", event => {
  if (event.target.matches("input:not([type=checkbox]), textarea, select")) { if (event.key === "Escape") event.target.blur(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (go) { go = false; if (event.key in pages) location.href = `${base}/${pages[event.key]}`; return; }
  const keys = {
    j: () => move(1), k: () => move(-1), x: () => here()?.querySelector("input[type=checkbox]")?.click(),
    r: () => act("run"), p: () => act("pause"), c: () => document.querySelector("main a[data-copy]")?.click(),
    t: theme, g: () => { go = true; }, Escape: () => act("back"),
    "/": () => { event.preventDefault(); const find = document.querySelector(".find input"); find?.offsetParent ? find.focus() : location.href = `${base}/find`; },
    "?": () => document.getElementById("help")?.click(),
  };
  keys[event.key]?.();
});

// --- several jobs: the form works without this; here it counts, and takes all of the page
const picks = () => [...document.querySelectorAll("input[form=several]")];
const count = () => {
  const all = picks(), n = all.filter(one => one.checked).length, told = document.getElementById("picked"), whole = document.querySelector("[data-pick-all]");
  const words = told?.dataset.n.replace("{n}", n);
  if (told && told.textContent !== words) told.textContent = words; // it is read aloud when it is set
  if (whole) { whole.hidden = false; whole.checked = n > 0 && n === all.length; whole.indeterminate = n > 0 && n < all.length; }
};
document.addEventListener("change", event => {
  if (event.target.matches("[data-pick-all]")) picks().forEach(one => one.checked = event.target.checked);
  count();
});

// --- a text to be pasted elsewhere: the link leads to it; here it is copied at once, where the browser lets us
let copied = ""; // said still when a live update replaces the link
const sayCopied = () => document.querySelectorAll("a[data-copy]").forEach(one => { if (one.href === copied) one.lastElementChild.textContent = one.dataset.done; });
document.addEventListener("click", async event => {
  const link = event.target.closest("a[data-copy]");
  if (!link || !navigator.clipboard || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  try {
    const answer = await fetch(link.href);
    if (!answer.ok) throw new Error(answer.statusText);
    await navigator.clipboard.writeText(await answer.text());
    copied = link.href;
    sayCopied();
  } catch { location.href = link.href; }
});

// --- a form is sent once: a second click while the answer is awaited would do everything twice
document.addEventListener("submit", event => {
  const form = event.target, now = Date.now();
  if (form.method !== "post") return;
  if (now - (form.dataset.sent ?? 0) < 10_000) event.preventDefault(); else form.dataset.sent = now;
});
addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach(one => delete one.dataset.sent));

// --- live: finished fragments by server-sent events; a hidden tab closes its stream and catches up when it is seen
const light = document.getElementById("live");
const told = on => {
  if (!light) return;
  light.hidden = false;
  light.classList.toggle("off", !on);
  light.lastElementChild.textContent = on ? light.dataset.on : light.dataset.off;
  light.role = "status"; // from now on: read aloud is what changes, not what every page begins with
};
let stream = null, pressed = false;
// A press whose element is replaced before it is let go of is no click, and a text that is replaced cannot be copied: fragments
// wait for the end of both. Of the right button's press nobody is told the end, where a menu opens.
const held = new Map();
const release = () => setTimeout(() => { const all = [...held.values()]; held.clear(); all.forEach(patch); });
addEventListener("pointerdown", event => { pressed = event.button < 2; });
for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => { pressed = false; release(); });
document.addEventListener("selectionchange", () => { if (held.size && !pressed) release(); });
const marked = part => !getSelection().isCollapsed && getSelection().containsNode(part, true);
// What is folded is known by its words, and by which of those with the same words it is: others may come before it.
const folds = part => {
  const seen = {};
  return [...part.querySelectorAll("details")].map(one => {
    const words = [one.parentElement.closest("details"), one].map(fold => fold?.firstElementChild.textContent).join("\n");
    return [`${words}\n${seen[words] = (seen[words] ?? 0) + 1}`, one];
  });
};
folds(document).forEach(([, one]) => { one.was = one.open; }); // a reader's choice is what differs from it
const patch = event => {
  const { id, html } = JSON.parse(event.data);
  const part = document.getElementById(id);
  if (!part) return;
  if (pressed || marked(part)) { held.set(id, event); return; }
  held.delete(id);
  const parts = "a, button, summary, input, select, textarea, [tabindex]", all = [...part.querySelectorAll(parts)];
  const at = all.indexOf(document.activeElement), href = all[at]?.getAttribute("href"), turned = folds(part).filter(([, one]) => one.open !== one.was);
  const picked = new Set(picks().filter(one => part.contains(one) && one.checked).map(one => one.name));
  const boxes = () => [...part.querySelectorAll(".scroll, .log, .tb, .diff, .json")], seen = boxes().map(one => [one.scrollLeft, one.scrollTop > 0 && one.scrollTop + one.clientHeight >= one.scrollHeight - 2 ? 1e9 : one.scrollTop]);
  part.innerHTML = html;
  boxes().forEach((one, at) => one.scrollTo(...(seen[at] ?? [0, 0])));
  const kept = new Map(turned.map(([words, one]) => [words, one.open]));
  folds(part).forEach(([words, one]) => { one.was = one.open; one.open = kept.get(words) ?? one.open; });
  if (picked.size) picks().forEach(one => { if (picked.has(one.name)) one.checked = true; });
  if (at >= 0) (href && part.querySelector(`[href="${CSS.escape(href)}"]`) || part.querySelectorAll(parts)[at])?.focus({ preventScroll: true });
  count();
  sayCopied();
};
const open = () => {
  if (!page || stream || document.hidden) return;
  stream = new EventSource(`${base}/live?of=${encodeURIComponent(page)}`);
  stream.addEventListener("open", () => told(true));
  stream.addEventListener("fragment", patch);
  // The browser opens a broken stream again, but not one that was refused: a server that starts, an ended session.
  stream.addEventListener("error", () => { told(false); if (stream?.readyState === 2) { close(); setTimeout(open, 5000); } });
};
const close = () => { stream?.close(); stream = null; };
document.addEventListener("visibilitychange", () => document.hidden ? close() : open());
addEventListener("pagehide", close);
addEventListener("pageshow", () => { count(); open(); });
count();
open();
document.querySelector("[data-focus]")?.focus();
