"use strict";
(() => {
  const base = document.documentElement.dataset.base;
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const say = (words) => { const place = $("#say"); if (place) place.textContent = words; };

  // ---- Times ----
  const span = (ms) => {
    const s = Math.max(0, ms / 1000);
    if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${String(Math.floor(s % 60)).padStart(2, "0")} s`;
    return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  };
  const tick = () => { for (const each of $$("time.since")) each.textContent = span(Date.now() - Date.parse(each.dateTime)); };
  const dates = (within = document) => {
    for (const each of $$("time.full", within)) each.textContent = new Date(each.dateTime).toLocaleString();
  };
  setInterval(tick, 200);
  tick();
  dates();

  // ---- Bring what is shown to what was sent, and touch nothing that stayed the same: images do not load again. ----
  // What the visitor has opened, closed or chosen stays as it is; so does the key of a form, or sent twice it would be paid twice.
  const OURS = new Set(["open", "hidden", "aria-current"]);
  const bring = (shown, sent) => {
    if (shown.isEqualNode(sent) || shown.name === "key") return;
    for (const { name } of [...shown.attributes]) if (!sent.hasAttribute(name) && !OURS.has(name)) shown.removeAttribute(name);
    for (const { name, value } of sent.attributes) if (!OURS.has(name) && shown.getAttribute(name) !== value) shown.setAttribute(name, value);
    if (!sent.children.length) {
      if (shown.textContent !== sent.textContent || shown.children.length) shown.replaceChildren(...sent.childNodes);
      return;
    }
    const named = new Map($$(":scope > [id]", shown).map((each) => [each.id, each]));
    let place = shown.firstChild;
    for (const node of [...sent.childNodes]) {
      let mine = node.id ? named.get(node.id) : null;
      if (!mine && place && !node.id && !place.id && place.nodeName === node.nodeName && place.className === node.className) mine = place;
      if (mine && mine.nodeName === node.nodeName) {
        if (mine !== place) shown.insertBefore(mine, place); else place = place.nextSibling;
        if (mine.nodeType === 1) bring(mine, node); else if (mine.data !== node.data) mine.data = node.data;
      } else shown.insertBefore(node, place);
    }
    while (place) { const next = place.nextSibling; place.remove(); place = next; }
  };
  const parsed = (html) => { const made = document.createElement("template"); made.innerHTML = html; return made.content; };
  const get = async (path) => {
    const answer = await fetch(base + path, { headers: { Accept: "text/html" } });
    if (answer.status === 401 || answer.redirected) location.reload();  // signed out
    if (!answer.ok || answer.redirected) throw Object.assign(new Error(`HTTP ${answer.status}`), { status: answer.status });
    const spent = answer.headers.get("X-Spent-Today"), place = $("#spent");
    if (spent && place && place.textContent !== spent) place.textContent = spent;
    return answer.text();
  };

  // ---- News: events while they come, questions while they do not ----
  const follow = (changed, reload) => {
    const mark = $("#link");
    let source = null, asking = null, again = null, leaving = null;
    const show = (state) => { if (mark && mark.dataset.link !== state) { mark.dataset.link = state; mark.textContent = state === "on" ? "" : "reconnecting"; } };
    const ask = () => { if (!asking) asking = setInterval(() => reload(false), 2000); };
    const open = () => {
      again = null;
      source = new EventSource(`${base}/v1/events`);
      // From here on nothing is missed; what happened between the page and this moment must be asked for.
      source.addEventListener("ready", () => { show("on"); clearInterval(asking); asking = null; reload(false); });
      source.addEventListener("changed", (event) => { const { id, version } = JSON.parse(event.data); changed(id, version); });
      source.addEventListener("reload", () => reload(true));
      source.addEventListener("error", () => {
        show("off");
        ask();
        // A browser comes back by itself, but not after a refusal.
        if (source.readyState === EventSource.CLOSED && !again) again = setTimeout(open, 2000);
      });
    };
    const close = () => { source?.close(); source = null; clearTimeout(again); clearInterval(asking); again = asking = null; };
    const back = () => { clearTimeout(leaving); leaving = null; if (!source) { open(); reload(true); } };
    if (!document.hidden) open();
    // A browser has six connections to a service: tabs that nobody looks at must not hold them.
    document.addEventListener("visibilitychange", () => { if (document.hidden) leaving = setTimeout(close, 3000); else back(); });
    addEventListener("pagehide", close);
    addEventListener("pageshow", (event) => { if (event.persisted) back(); });
    addEventListener("online", () => reload(true));
  };
  // Calls `work` soon, never twice at once, once more when asked for meanwhile, not while nobody looks, and the less often the
  // longer it takes: many who watch a busy service must not be what keeps it busy.
  const calmly = (pause, work) => {
    let timer = null, busy = false, wanted = false, rest = pause, failed = 0;
    const run = async () => {
      timer = null;
      if (document.hidden) { wanted = true; return; }
      busy = true; wanted = false;
      const began = performance.now();
      try { await work(); failed = 0; } catch (error) { failed += 1; wanted = error.status !== 404; }
      rest = failed ? Math.min(15000, 500 * 2 ** failed) : Math.min(3000, Math.max(pause, 8 * (performance.now() - began)));
      busy = false;
      if (wanted) call();
    };
    const call = () => { if (busy) wanted = true; else if (!timer) { timer = setTimeout(run, rest); rest = pause; } };
    document.addEventListener("visibilitychange", () => { if (!document.hidden && wanted && !busy) call(); });
    return call;
  };

  // ---- The grid ----
  const grid = $("#grid");
  if (grid) {
    const first = grid.dataset.first === "1", filtered = grid.dataset.filtered === "1";
    const known = (id) => document.getElementById(`g-${id}`);
    const stale = new Map();
    // Where what is older goes: a stretch has some hundred tiles, so that a new page lays out these and not ten thousand.
    const stretch = () => {
      const last = $(".stretch:last-of-type", grid);
      if ($$(".tile", last).length < 400) return last;
      const made = document.createElement("div");
      made.className = "stretch";
      last.after(made);
      return made;
    };
    const place = (sent) => {
      const shown = document.getElementById(sent.id);
      if (shown) { if (+sent.dataset.version >= +shown.dataset.version || !+sent.dataset.version) { told(shown, sent); bring(shown, sent); } return; }
      const before = $$(".card", grid).find((each) => each.dataset.at <= sent.dataset.at);
      if (!before) { stretch().append(sent); } else {
        const home = before.parentElement;
        if (before === home.firstElementChild && $$(".tile", home).length > 600) { // a page that is left open grows at its top
          const made = document.createElement("div");
          made.className = "stretch";
          home.before(made);
          made.append(sent);
        } else before.before(sent);
      }
      $("#nothing")?.remove();
    };
    const told = (shown, sent) => {
      if (shown.dataset.settled === "0" && sent.dataset.settled === "1") {
        const good = $$("img", sent).length, bad = $$(".failed", sent).length;
        say(`${good} ${good === 1 ? "image is" : "images are"} done${bad ? `, ${bad} failed` : ""}`);
      }
    };
    const update = calmly(60, async () => {
      const ids = [...stale.keys()].slice(0, 50);
      if (!ids.length) return;
      for (const id of ids) stale.delete(id);
      let html = "";
      try { html = await get(`/cards?ids=${ids.join(",")}`); } catch (error) {
        for (const id of ids) if (!stale.has(id)) stale.set(id, 0);
        throw error;
      }
      const sent = parsed(html);
      for (const gone of $$("template.gone", sent)) known(gone.dataset.id)?.remove();
      for (const card of $$(".card", sent)) if (known(card.id.slice(2))) place(card);
      tick();
      if (stale.size) update();
    });
    const newest = calmly(filtered ? 1000 : 150, async () => {
      if (!first) return;
      const top = $(".card", grid)?.dataset.at ?? "", oldest = $$(".card", grid).pop();
      let query = grid.dataset.query;
      // More may be new than one page has: on until what is shown already, so that no gap is left.
      for (let page = 0; page < 10; page += 1) {
        const sent = parsed(await get(`/cards${query}`)), cards = $$(".card", sent), next = $("#more", sent);
        for (const card of cards) if (known(card.id.slice(2)) || !$("#more") || !oldest || card.dataset.at >= oldest.dataset.at) place(card);
        tick();
        if (!next || !top || cards.some((card) => card.dataset.at <= top)) return;
        query = new URL(next.href, location.href).search;
      }
      location.reload();
    });
    const reload = (all) => {
      for (const card of $$(all ? ".card" : '.card[data-settled="0"]', grid)) stale.set(card.id.slice(2), 0);
      update();
      newest();
    };
    follow((id, version) => {
      const shown = known(id);
      if (!shown) { newest(); return; }
      if (version > +shown.dataset.version || !+shown.dataset.version) { stale.set(id, version); update(); }
    }, reload);

    // Endless: the next page comes before its end is reached.
    const seen = new IntersectionObserver((entries) => { if (entries.some((each) => each.isIntersecting)) more(); }, { rootMargin: "1800px" });
    let fetching = false, empty = 0;
    const more = async () => {
      const link = $("#more");
      if (!link || fetching || empty > 2) return;
      fetching = true;
      try {
        const sent = parsed(await get(`/cards${new URL(link.href).search}`));
        const next = $("#more", sent);
        link.remove();
        const to = stretch();
        const cards = $$(".card", sent);
        for (const card of cards) if (!document.getElementById(card.id)) to.append(card);
        empty = cards.length ? 0 : empty + 1;
        if (next) {
          grid.append(next);
          if (empty > 2) { next.textContent = "Nothing so far; look further back"; next.addEventListener("click", (event) => { event.preventDefault(); empty = 0; more(); }); }
          seen.observe(next);
        }
      } catch { /* the link stays, to be pressed */ }
      fetching = false;
    };
    if ($("#more")) seen.observe($("#more"));

    // Blank filters stay out of the address.
    $("#filters").addEventListener("submit", (event) => {
      for (const each of $$("input, select", event.target)) if (!each.value) each.disabled = true;
    });
    addEventListener("pageshow", () => { for (const each of $$("#filters :disabled")) each.disabled = false; });

    const along = (from, key) => {
      const tiles = $$(".tile", grid), at = tiles.indexOf(from);
      if (key === "ArrowRight") return tiles[at + 1];
      if (key === "ArrowLeft") return tiles[at - 1];
      const box = from.getBoundingClientRect(), middle = box.left + box.width / 2, down = key === "ArrowDown";
      let best = null, nearest = Infinity;
      for (const each of tiles.slice(Math.max(0, at - 40), at + 41)) {
        const other = each.getBoundingClientRect(), apart = down ? other.top - box.top : box.top - other.top;
        if (apart < 20) continue;
        const cost = apart * 10 + Math.abs(other.left + other.width / 2 - middle);
        if (cost < nearest) { nearest = cost; best = each; }
      }
      return best;
    };
    grid.addEventListener("keydown", (event) => {
      if (!event.key.startsWith("Arrow") || event.ctrlKey || event.metaKey || event.altKey) return;
      const tile = event.target.closest(".tile"), next = tile && along(tile, event.key);
      if (next) { event.preventDefault(); next.focus(); }
    });
    const toast = $("#toast");
    if (toast) { history.replaceState(null, "", location.pathname); setTimeout(() => toast.remove(), 29000); }
  }

  // ---- One generation ----
  const one = $("#one");
  if (one) {
    const id = one.dataset.id, zoom = $("#zoom");
    const figures = () => $$("#viewer > figure");
    let at = 0;
    const show = (number, { push = true } = {}) => {
      const all = figures();
      if (!all.length) return;
      at = (number + all.length) % all.length;
      all.forEach((each, index) => { each.hidden = index !== at; });
      const chosen = all[at];
      for (const link of $$("#strip a")) {
        if (link.hash !== `#${chosen.id}`) { link.removeAttribute("aria-current"); continue; }
        link.setAttribute("aria-current", "true");
        const strip = $("#strip");
        strip.scrollLeft = link.offsetLeft - (strip.clientWidth - link.offsetWidth) / 2;
      }
      const image = $("img", chosen);
      image.loading = "eager";
      if (document.activeElement?.closest("figure[hidden]")) $(".zoomer", chosen).focus();
      if (push) say(`image ${at + 1} of ${all.length}`);
      const count = $("#strip-count");
      if (count) count.textContent = `${at + 1} / ${all.length}`;
      if (push) history.replaceState(null, "", `#${chosen.id}`);
      if (zoom.open) enlarge();
    };
    const wanted = () => Math.max(0, figures().findIndex((each) => `#${each.id}` === location.hash));
    const enlarge = () => {
      const image = $("img", figures()[at]), large = $("img", zoom);
      large.src = image.currentSrc || image.src;
      large.alt = image.alt;
      if (!zoom.open) { zoom.classList.remove("full"); zoom.showModal(); }
    };
    show(wanted(), { push: false });
    addEventListener("hashchange", () => show(wanted(), { push: false }));
    one.addEventListener("click", (event) => {
      if (event.target.closest(".zoomer")) enlarge();
      const link = event.target.closest("#strip a");
      if (link) { event.preventDefault(); show(figures().findIndex((each) => `#${each.id}` === link.hash)); }
    });
    zoom.addEventListener("click", (event) => {
      if (event.target.closest(".close")) { zoom.close(); return; }
      if (event.target.closest(".actual")) { zoom.classList.toggle("full"); return; }
      if (event.target.tagName !== "IMG") { zoom.close(); return; }
      const box = event.target.getBoundingClientRect(), x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
      zoom.classList.toggle("full");
      const pan = $(".pan", zoom);
      pan.scrollTo(x * pan.scrollWidth - pan.clientWidth / 2, y * pan.scrollHeight - pan.clientHeight / 2);
    });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, pre")) return;
      if (event.key === "ArrowRight") show(at + 1);
      else if (event.key === "ArrowLeft") show(at - 1);
      else if (event.key === "z" && figures().length) zoom.open ? zoom.close() : enlarge();
      else if (event.key === "d" && figures().length) $("a[download]", figures()[at]).click();
      else if (event.key === "Escape" && !zoom.open) { // to the view that one came from, with its filters and its place
        if (document.referrer && new URL(document.referrer).pathname === `${base}/` && history.length > 1) history.back();
        else location.href = `${base}/`;
        return;
      }
      else return;
      event.preventDefault();
    });
    const refresh = calmly(60, async () => {
      const before = figures().length, chosen = figures()[at]?.id;
      const sent = document.createElement("div");
      try { sent.innerHTML = await get(`/g/${id}/live`); } catch (error) {
        if (error.status === 404) {
          one.innerHTML = '<section class="empty"><h1>Deleted</h1><p>This generation is not here any more.</p></section>';
          say("This generation was deleted");
        }
        throw error;
      }
      for (const name of one.getAttributeNames()) sent.setAttribute(name, one.getAttribute(name));
      bring(one, sent);
      show(before ? Math.max(0, figures().findIndex((each) => each.id === chosen)) : 0, { push: false });
      if (figures().length !== before) say(`${figures().length} of the images are there`);
      tick();
      dates(one);
    });
    follow((changed) => { if (changed === id) refresh(); }, refresh);
  }

  // ---- A new one ----
  const form = $("#new");
  if (form) {
    const width = form.elements.width, height = form.elements.height;
    const press = () => { for (const chip of $$(".chip", form)) chip.setAttribute("aria-pressed", chip.dataset.width === width.value && chip.dataset.height === height.value); };
    form.addEventListener("click", (event) => {
      const chip = event.target.closest(".chip");
      if (chip) { width.value = chip.dataset.width; height.value = chip.dataset.height; press(); }
    });
    form.addEventListener("input", press);
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
    });
    form.addEventListener("submit", (event) => {
      const send = $(".send button", form);
      if (send.getAttribute("aria-busy") === "true") event.preventDefault();
      send.setAttribute("aria-busy", "true");
    });
    addEventListener("pageshow", () => $(".send button", form).removeAttribute("aria-busy"));
    $("[aria-invalid]", form)?.focus();
  }

  // ---- Models, as you type ----
  $$("input[data-models]").forEach((input, number) => {
    const list = document.createElement("ul"), holder = document.createElement("span");
    list.className = "list-of-models"; list.id = `models-${number}`; list.setAttribute("role", "listbox"); list.setAttribute("aria-label", "Models"); list.hidden = true;
    holder.className = "holds";
    input.replaceWith(holder);
    holder.append(input, list);
    for (const [name, value] of [["role", "combobox"], ["aria-autocomplete", "list"], ["aria-expanded", "false"], ["aria-controls", list.id]]) input.setAttribute(name, value);
    let chosen = -1, asked = 0;
    const open = (yes) => { list.hidden = !yes; input.setAttribute("aria-expanded", yes); if (!yes) { chosen = -1; input.removeAttribute("aria-activedescendant"); } };
    const choose = (number) => {
      const all = $$("[role=option]", list);
      if (!all.length) return;
      chosen = (number + all.length) % all.length;
      all.forEach((each, index) => each.setAttribute("aria-selected", index === chosen));
      all[chosen].scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", all[chosen].id);
    };
    const take = (option) => { input.value = option.dataset.air; open(false); input.dispatchEvent(new Event("change", { bubbles: true })); };
    const search = calmly(180, async () => {
      const mine = ++asked, words = input.value.trim();
      const answer = await fetch(`${base}/v1/models?limit=12&search=${encodeURIComponent(words)}`);
      const page = await answer.json();
      if (mine !== asked || document.activeElement !== input) return;
      list.replaceChildren();
      for (const [index, model] of (page.results || []).entries()) {
        const option = document.createElement("li"), name = document.createElement("span"), air = document.createElement("small");
        option.setAttribute("role", "option"); option.id = `${list.id}-${index}`; option.dataset.air = model.air; option.setAttribute("aria-selected", "false");
        name.textContent = [model.name, model.version].filter(Boolean).join(" ") || model.air;
        air.textContent = model.air;
        option.append(name, air);
        list.append(option);
      }
      if (!list.children.length) {
        const none = document.createElement("li");
        none.className = "none"; none.setAttribute("role", "option"); none.setAttribute("aria-disabled", "true");
        none.textContent = page.detail || "No model of this name";
        list.append(none);
      }
      chosen = -1;
      open(true);
    });
    input.addEventListener("input", search);
    input.addEventListener("focus", () => { input.select(); });
    input.addEventListener("blur", () => setTimeout(() => open(false), 120));
    list.addEventListener("pointerdown", (event) => { event.preventDefault(); const option = event.target.closest("[data-air]"); if (option) take(option); });
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") { event.preventDefault(); if (list.hidden) search(); else choose(chosen + 1); }
      else if (event.key === "ArrowUp") { event.preventDefault(); choose(chosen - 1); }
      else if (event.key === "Enter" && !event.ctrlKey && !list.hidden && chosen >= 0) { event.preventDefault(); take($$("[role=option]", list)[chosen]); }
      else if (event.key === "Escape" && !list.hidden) { event.stopPropagation(); open(false); }
    });
  });

  // ---- Operations ----
  const board = $("#operations");
  if (board) {
    setInterval(calmly(0, async () => {
      if (board.contains(document.activeElement)) return;
      const sent = $("#operations", parsed(await get(`/operations${location.search}`)));
      if (sent) { bring(board, sent); dates(board); }
    }), board.dataset.refresh * 1000);
  }

  // ---- Everywhere ----
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy], [data-copy-link]");
    if (!button) return;
    const text = button.dataset.copy ?? location.origin + button.dataset.copyLink;
    button.dataset.words ??= button.textContent;
    let done = true;
    try { await navigator.clipboard.writeText(text); } catch { done = false; }
    if (!done) { // not over plain HTTP: the old way
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = done ? "Copied" : "Cannot copy";
    say(button.textContent);
    setTimeout(() => { button.textContent = button.dataset.words; }, 1400);
  });
  const theme = $("#theme");
  const names = { "": "as the system", dark: "dark", light: "light" };
  const named = () => { const now = document.documentElement.dataset.theme || ""; theme.setAttribute("aria-label", `Colours: ${names[now]}`); theme.title = `Colours: ${names[now]}`; };
  theme.addEventListener("click", () => {
    const next = { "": "dark", dark: "light", light: "" }[document.documentElement.dataset.theme || ""];
    if (next) document.documentElement.dataset.theme = next; else delete document.documentElement.dataset.theme;
    try { if (next) localStorage.setItem("theme", next); else localStorage.removeItem("theme"); } catch { /* for this page, then */ }
    named();
  });
  named();
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    if (event.key === "/" && $("#filters")) { event.preventDefault(); $("#filters [name=prompt]").focus(); }
    else if (event.key === "n") { event.preventDefault(); location.href = `${base}/new`; }
  });
})();
