// What the console does in the browser. Every page works without it; nothing here is inline, and nothing evaluates text.
"use strict";

(() => {
    const all = (selector, root = document) => [...root.querySelectorAll(selector)];
    const whenReady = (start) => document.readyState === "loading"
        ? document.addEventListener("DOMContentLoaded", start) : start();

    // --- Time ---------------------------------------------------------------------------------------------------------

    const units = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "days"]];

    function distance(seconds) {
        const size = Math.abs(seconds);
        if (size < 1) return "now";
        const [, one, name] = units.find(([limit]) => size < limit);
        const count = Math.floor(size / one);
        const unit = count === 1 && name === "days" ? "day" : name;
        return seconds > 0 ? `in ${count} ${unit}` : `${count} ${unit} ago`;
    }

    function elapsed(seconds) {
        const whole = Math.max(0, Math.floor(seconds));
        const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
        if (hours) return `${hours}h ${minutes}m`;
        return minutes ? `${minutes}m ${rest}s` : `${rest}s`;
    }

    const local = new Intl.DateTimeFormat("en-GB", {
        weekday: "short", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
        timeZoneName: "short",
    });
    const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

    function tellTimes(root = document) {
        const now = Date.now();
        for (const time of all("time[data-rota-relative]", root)) {
            const at = new Date(time.dateTime);
            time.textContent = distance((at - now) / 1000);
            if (!time.dataset.rotaTold) {
                time.dataset.rotaTold = "yes";
                time.title = `${time.title} · ${local.format(at)} for you`;
            }
        }
        for (const time of all("time[data-rota-local]", root)) time.textContent = local.format(new Date(time.dateTime));
        for (const time of all("time[data-rota-clock]", root)) time.textContent = clock.format(new Date(time.dateTime));
        for (const place of all("[data-rota-elapsed]", root)) {
            place.textContent = elapsed((now - new Date(place.dataset.rotaElapsed)) / 1000);
        }
    }

    // --- Ask in a dialog ----------------------------------------------------------------------------------------------

    async function askInDialog(link) {
        const response = await fetch(link.href, { headers: { "X-Requested-With": "fetch" } });
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const form = page.getElementById("rota-ask");
        if (!response.ok || !form) {
            window.location.assign(link.href);
            return;
        }
        const dialog = document.createElement("dialog");
        dialog.className = "rota-dialog";
        dialog.append(document.adoptNode(form));
        document.body.append(dialog);
        dialog.addEventListener("close", () => dialog.remove());
        dialog.addEventListener("click", (event) => {
            if (event.target !== dialog && !event.target.closest("[data-rota-close]")) return;
            event.preventDefault();
            dialog.close();
        });
        form.addEventListener("submit", () => all("button[type=submit]", form).forEach((one) => { one.disabled = true; }));
        dialog.showModal();
    }

    document.addEventListener("click", (event) => {
        const link = event.target.closest("a[data-rota-ask]");
        if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
        event.preventDefault();
        askInDialog(link).catch(() => window.location.assign(link.href));
    });

    // --- Regions that keep themselves fresh ---------------------------------------------------------------------------

    async function fetchPage() {
        const response = await fetch(window.location.href, { headers: { "X-Requested-With": "fetch" } });
        if (!response.ok || response.redirected) throw new Error(`status ${response.status}`);
        return new DOMParser().parseFromString(await response.text(), "text/html");
    }

    function swap(page, id) {
        const [old, fresh] = [document.getElementById(id), page.getElementById(id)];
        if (!old || !fresh) return null;
        const adopted = document.adoptNode(fresh);
        old.replaceWith(adopted);
        tellTimes(adopted);
        return adopted;
    }

    function keepFresh(region) {
        const seconds = Number(region.dataset.rotaRefresh);
        const again = () => window.setTimeout(async () => {
            if (document.hidden || document.querySelector("dialog[open]") || region.matches(":focus-within")) return again();
            try {
                const page = await fetchPage();
                const fresh = swap(page, region.id);
                if (!fresh) return undefined;
                region = fresh;
                tellReadiness(region);
                if (!region.dataset.rotaRefresh) return swapButtons(page);
            } catch {
                // The server is away or the visit has ended: try again, and say nothing over and over.
            }
            return again();
        }, seconds * 1000);
        again();
    }

    function swapButtons(page) {
        const [old, fresh] = [document.getElementById("header-inner"), page.getElementById("header-inner")];
        if (old && fresh) old.replaceWith(document.adoptNode(fresh));
    }

    // --- The live session ---------------------------------------------------------------------------------------------

    function watch(page) {
        const transcript = document.getElementById("rota-transcript");
        const told = page.querySelector("[data-rota-live-state]");
        const source = new EventSource(`${page.dataset.rotaLive}?after=${page.dataset.rotaAfter}`);
        // Whoever has scrolled down to the end wants to stay there; at the top one reads the head.
        const atEnd = () => window.scrollY > 0 && window.innerHeight + window.scrollY >= document.body.offsetHeight - 120;

        source.addEventListener("open", () => { told.textContent = "live"; });
        source.addEventListener("error", () => {
            told.textContent = source.readyState === EventSource.CLOSED ? "not live: reload to see what is new" : "reconnecting …";
        });
        source.addEventListener("entries", (event) => {
            const follow = atEnd();
            const template = document.createElement("template");
            template.innerHTML = JSON.parse(event.data).html; // escaped by the server, like the page itself
            const seen = new Set(all("[data-seq]", transcript).slice(-400).map((entry) => entry.dataset.seq));
            for (const entry of all("[data-seq]", template.content)) if (seen.has(entry.dataset.seq)) entry.remove();
            tellTimes(template.content);
            transcript.append(template.content);
            document.getElementById("rota-no-entries")?.remove();
            if (follow) window.scrollTo({ top: document.body.scrollHeight });
        });
        source.addEventListener("state", (event) => {
            const state = JSON.parse(event.data);
            const began = page.dataset.rotaStatus;
            page.querySelector("[data-rota-pill]").innerHTML = state.pill;
            for (const place of all("[data-rota-fact]", page)) {
                const text = state.facts[place.dataset.rotaFact];
                if (text !== undefined) place.textContent = text;
            }
            page.dataset.rotaStatus = state.status;
            if (began === "queued" && state.status === "running") fetchPage().then((now) => swap(now, "rota-session-head"));
        });
        source.addEventListener("end", async () => {
            source.close();
            told.textContent = "";
            try {
                const now = await fetchPage();
                ["head", "result", "rehearsal", "diff", "details"].forEach((part) => swap(now, `rota-session-${part}`));
                swapButtons(now);
            } catch {
                told.textContent = "it is over: reload to see the result";
            }
        });
        window.addEventListener("pagehide", () => source.close());
    }

    // --- The form of a schedule ---------------------------------------------------------------------------------------

    function holds(condition, form) {
        const [name, wanted] = condition.split("=");
        const control = form.elements.namedItem(name);
        if (!control) return true;
        return control.value === "" || wanted.split(",").includes(control.value);
    }

    const says = (control) => (control.type === "checkbox" ? control.checked : control.value.trim() !== (control.dataset.rotaUsual || ""));

    // Whether the runner that is chosen takes the control, and the value that it is about.
    function taken(control, form, value) {
        const conditions = control.dataset.rotaWhen.split(" ").filter((condition) => condition.startsWith("runner="));
        const choices = JSON.parse(control.dataset.rotaChoices || "{}")[form.elements.namedItem("runner")?.value];
        return conditions.every((condition) => holds(condition, form)) && (!choices || !value || choices.includes(value));
    }

    function offer(form) {
        for (const control of all("[data-rota-choices]", form)) {
            if (control.type === "checkbox") (control.closest("label") || control).hidden = !taken(control, form, control.value);
            else for (const option of control.options || []) option.hidden = !taken(control, form, option.value);
        }
        for (const control of all("[data-rota-suggestions]", form)) {
            const names = JSON.parse(control.dataset.rotaSuggestions)[form.elements.namedItem("runner")?.value] || [];
            control.list?.replaceChildren(...names.map((name) => new Option(name, name)));
        }
    }

    // What is lost when it is saved: of all tabs, for most of it is hidden by now.
    function tellEmptied(form) {
        const runner = form.elements.namedItem("runner");
        if (!runner) return;
        const lost = all("[data-rota-when]", form).filter((control) => says(control) && !taken(control, form, control.value));
        const nameOf = (control) => control.closest(".field-line")?.querySelector("label")?.firstChild?.textContent.trim() || control.name;
        const names = [...new Set(lost.map(nameOf))];
        let told = form.querySelector("[data-rota-emptied]");
        if (!told) {
            told = document.createElement("p");
            told.className = "rota-note";
            told.dataset.rotaEmptied = "";
            told.setAttribute("role", "status");
            runner.parentElement.after(told); // outside of what draws its arrow
        }
        told.hidden = !names.length;
        told.textContent = names.length ? `Emptied when it is saved, for ${runner.value} takes none: ${names.join(", ")}.` : "";
    }

    function showWanted(form) {
        for (const control of all("[data-rota-when]", form)) {
            const line = control.closest(".field-line");
            if (!line) continue;
            const bad = line.classList.contains("errors");
            const hide = !bad && !control.dataset.rotaWhen.split(" ").every((condition) => holds(condition, form));
            line.classList.toggle("rota-hidden-field", hide);
        }
        offer(form);
        tellEmptied(form);
    }

    function previewTimes(box, form) {
        const [words, problem] = [box.querySelector(".rota-preview-words"), box.querySelector(".rota-preview-problem")];
        const table = box.querySelector(".rota-preview-times");
        const names = ["cron", "at_0", "at_1", "max_runs", "time_zone", "starts_at_0", "starts_at_1", "ends_at_0", "ends_at_1"];
        let [timer, turn] = [0, 0];

        async function show() {
            const mine = ++turn;
            const query = new URLSearchParams();
            for (const name of names) query.set(name, form.elements.namedItem(name)?.value ?? "");
            let answer;
            try {
                const response = await fetch(`${box.dataset.rotaPreview}${query}`);
                answer = await response.json();
            } catch {
                return;
            }
            if (mine !== turn) return;
            words.textContent = answer.words;
            problem.hidden = !answer.problem;
            problem.textContent = answer.problem ? answer.problem.message : "";
            table.hidden = !answer.times.length;
            table.tBodies[0].replaceChildren(...answer.times.map((time) => {
                const row = document.createElement("tr");
                const [theirs, yours] = [row.insertCell(), row.insertCell()];
                theirs.textContent = time.zoned;
                yours.textContent = local.format(new Date(time.at));
                yours.title = time.utc;
                return row;
            }));
        }
        for (const name of names) {
            form.elements.namedItem(name)?.addEventListener("input", () => {
                window.clearTimeout(timer);
                timer = window.setTimeout(show, 250);
            });
        }
        show();
    }

    // --- Is everything there? -----------------------------------------------------------------------------------------

    async function tellReadiness(root) {
        for (const place of all("[data-rota-ready]", root)) {
            const pill = place.querySelector(".rota-pill");
            try {
                const { checks } = await (await fetch(place.dataset.rotaReady)).json();
                const bad = ["broker", "database", "migrations"].filter((name) => checks[name] && !checks[name].ok);
                pill.className = `rota-pill rota-is-${bad.length ? "failed" : "alive"}`;
                pill.textContent = bad.length ? "away" : "alive";
                pill.title = bad.map((name) => `${name}: ${checks[name].detail}`).join(" ");
            } catch {
                pill.textContent = "unknown";
            }
        }
    }

    whenReady(() => {
        tellTimes();
        window.setInterval(tellTimes, 1000);
        all("[data-rota-refresh]").forEach(keepFresh);
        all("[data-rota-live]").forEach(watch);
        tellReadiness(document);
        const form = document.getElementById("schedule_form");
        if (form) {
            showWanted(form);
            form.addEventListener("change", () => showWanted(form));
            all("[data-rota-preview]", form).forEach((box) => previewTimes(box, form));
        }
    });
})();
