// The frame: sign-in, navigation, and one page at a time.
import { get, hasToken, Problem, useToken } from "/console/api.js";
import { field, fill, h, problem } from "/console/dom.js";
import { texts } from "/console/texts.js";
import { showAudit } from "/console/audit.js";
import { showBrokers } from "/console/brokers.js";
import { showClient } from "/console/client.js";
import { showClients } from "/console/clients.js";
import { showDeadLetters } from "/console/dead-letters.js";
import { showFleet } from "/console/fleet.js";
import { showNew } from "/console/new-client.js";
import { showNodes } from "/console/nodes.js";
import { showOperations } from "/console/operations.js";
import { showProfile, showProfiles } from "/console/profiles.js";
import { showRoutes } from "/console/routes.js";
import { showSinks } from "/console/sinks.js";

const ranks = ["none", "viewer", "operator", "admin"];

// needs: the least role; fleet: not for a token with a scope; hidden: not in the navigation.
const pages = {
    fleet: { show: showFleet },
    clients: { show: showClients },
    new: { show: showNew, needs: "operator" },
    profiles: { show: showProfiles, fleet: true },
    nodes: { show: showNodes, fleet: true },
    brokers: { show: showBrokers, fleet: true },
    sinks: { show: showSinks, fleet: true },
    routes: { show: showRoutes, fleet: true },
    deadLetters: { show: showDeadLetters, needs: "operator" },
    operations: { show: showOperations },
    audit: { show: showAudit, fleet: true },
    client: { show: showClient, hidden: true },
    profile: { show: showProfile, fleet: true, hidden: true },
};

const main = document.getElementById("main");
let caller = { name: "", role: "viewer", scope: null };
let leave = new AbortController();

// What a page is given: may(role) tells whether to offer an action.
const session = {
    get caller() { return caller; },
    may: (role) => ranks.indexOf(caller.role) >= ranks.indexOf(role),
    get wholeFleet() { return !caller.scope; },
};

const offered = (page) => (!page.needs || session.may(page.needs)) && (!page.fleet || session.wholeFleet);

function decoded(text) {
    try {
        return decodeURIComponent(text);
    } catch {
        return text; // no valid escape: as it stands
    }
}

function place() {
    const [name, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
    const [page, ...rest] = name.split("/");
    return { page: Object.hasOwn(pages, page) ? page : "fleet", rest: rest.map(decoded), query: new URLSearchParams(query) };
}

function drawFrame(current) {
    fill(document.getElementById("nav"), h("ul", {}, Object.entries(pages)
        .filter(([, page]) => !page.hidden && offered(page))
        .map(([name]) => h("li", {}, h("a", { href: `#/${name}`, "aria-current": name === current ? "page" : null }, texts.pages[name])))));
    fill(document.getElementById("caller"),
        h("span", {}, texts.caller(caller.name, caller.role, caller.scope)),
        hasToken() ? h("button", { onclick: signOut }, texts.signOut) : null);
}

async function showPage() {
    leave.abort();
    leave = new AbortController();
    const { signal } = leave;
    const where = place();
    const title = pages[where.page].hidden ? where.rest[0] ?? "" : texts.pages[where.page];
    drawFrame(where.page);
    document.title = texts.title(title);
    const body = h("div", {}, h("p", { class: "soft" }, texts.loading));
    fill(main, h("h1", {}, title), body);
    main.focus({ preventScroll: true });
    try {
        if (!offered(pages[where.page])) throw new Problem(403, { detail: texts.notAllowed });
        await pages[where.page].show({ body, signal, session, ...where });
    } catch (error) {
        if (error.name === "AbortError" || signal.aborted) return;
        if (error.status === 401) signOut();
        else fill(body, problem(error));
    }
}

function signOut() {
    useToken(null);
    begin();
}

function showSignIn(wrong) {
    leave.abort();
    fill(document.getElementById("nav"));
    fill(document.getElementById("caller"));
    document.title = texts.title(texts.signIn);
    const form = h("form", { class: "filters", onsubmit: async (event) => {
        event.preventDefault();
        useToken(form.elements.token.value.trim());
        await begin(true);
    } },
    field(texts.token, "token", { type: "password", required: true, autocomplete: "current-password" }),
    h("button", { class: "main" }, texts.signIn));
    fill(main, h("h1", {}, texts.signIn), wrong ? h("div", { class: "error", role: "alert" }, texts.tokenWrong) : null,
        form, h("p", { class: "soft" }, texts.tokenHint));
    form.elements.token.focus();
}

// Opens at once where no token is needed.
async function begin(tried = false) {
    try {
        caller = await get("/api/v1/caller");
    } catch (error) {
        if (error.status === 401 || error.status === 403) {
            useToken(null);
            showSignIn(tried);
        } else {
            fill(main, problem(error));
        }
        return;
    }
    await showPage();
}

window.addEventListener("hashchange", showPage);
begin();
