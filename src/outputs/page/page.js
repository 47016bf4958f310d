"use strict";
// Pages work without this script. It filters the shown rows while the user types, sends a form
// when a choice is made, and refreshes the content every few seconds if asked to.
(() => {
  const SECONDS = 5;
  const main = () => document.querySelector("main");

  const search = () => document.querySelector(".filters input[type=search]");
  const rows = () => document.querySelectorAll("main table.sources > tbody, main table.aggregated > tbody > tr, main table.settings > tbody > tr");

  // The cells that the server searches: names, addresses of senders, values of settings.
  const SEARCHED = "td.name > :first-child, td.from, td.value";
  const searched = (row) => [...row.querySelectorAll(SEARCHED)].map((it) => it.textContent).join("\n").toLowerCase();

  const filter = (field) => {
    const text = field.value.trim().toLowerCase();
    for (const row of rows()) {
      row.hidden = text !== field.defaultValue.toLowerCase() && !searched(row).includes(text);
    }
  };

  document.addEventListener("input", (event) => {
    if (event.target === search()) filter(event.target);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches(".filters select")) event.target.form.requestSubmit();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey && search()) {
      event.preventDefault();
      search().focus();
    }
  });
  // Empty fields are left out of the address.
  document.addEventListener("submit", (event) => {
    if (!event.target.matches(".filters")) return;
    for (const field of event.target.elements) {
      if (field.name && !field.value) field.disabled = true;
    }
  });
  window.addEventListener("pageshow", () => {
    for (const field of document.querySelectorAll(".filters :disabled")) field.disabled = false;
  });

  // The user reads or edits something that a refresh would take away.
  const busy = () =>
    document.hidden ||
    main().querySelector("details.confirm[open]") ||
    (main().contains(document.activeElement) && document.activeElement.matches("input, select, button, pre")) ||
    !window.getSelection().isCollapsed;

  const key = (details, index) => index + ":" + details.querySelector("summary").textContent;
  const opened = () => new Set([...main().querySelectorAll("details")].map((it, index) => it.open ? key(it, index) : ""));

  const load = async () => {
    if (busy()) return;
    const reply = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (!reply.ok || busy()) return;
    const fresh = new DOMParser().parseFromString(await reply.text(), "text/html").querySelector("main");
    if (!fresh) return;
    const open = opened();
    const focused = [...main().querySelectorAll("a, summary")].indexOf(document.activeElement);
    main().replaceChildren(...fresh.childNodes);
    main().querySelectorAll("details").forEach((it, index) => { if (open.has(key(it, index))) it.open = true; });
    if (focused >= 0) main().querySelectorAll("a, summary")[focused]?.focus({ preventScroll: true });
  };

  const store = {
    get: () => { try { return localStorage.getItem("refresh") === "on"; } catch { return false; } },
    set: (on) => { try { localStorage.setItem("refresh", on ? "on" : "off"); } catch { /* It is not kept. */ } },
  };
  let timer;
  const run = (on) => {
    clearInterval(timer);
    if (on) timer = setInterval(() => load().catch(() => {}), SECONDS * 1000);
  };
  const place = document.getElementById("refresh");
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = store.get();
  box.addEventListener("change", () => { store.set(box.checked); run(box.checked); });
  label.append(box, ` Refresh every ${SECONDS} s`);
  place.append(label);
  run(box.checked);
})();
