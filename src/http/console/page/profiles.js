// Profiles: fields that many clients share by name.
import { call, get, segment } from "/console/api.js";
import { button, confirm, field, fill, h, number, table, toast } from "/console/dom.js";
import { drawEditor } from "/console/editor.js";
import { texts } from "/console/texts.js";

const pathOf = (name) => `/api/v1/client-profiles/${segment(name)}`;
const pageOf = (name) => `#/profile/${encodeURIComponent(name)}`;
const clientsOf = (name, text) => h("a", { href: `#/clients?${new URLSearchParams({ profile: name })}` }, text);
const condition = (etag) => (etag ? { "If-Match": etag } : {});

// name(): of the profile when it is saved.
function drawProfileEditor({ name, config, etag, close }) {
    return drawEditor({ label: texts.profileDocument, value: config, close,
        plan: async (document) => {
            if (!name()) throw new Error(texts.profileNeedsName);
            const { json } = await call("PUT", `${pathOf(name())}?dry_run=true`, { body: document, headers: condition(etag) });
            return { ...json, note: json.clients > 0 ? h("p", {}, texts.profileConcerns(number(json.clients))) : null };
        },
        save: async (document) => {
            await call("PUT", pathOf(name()), { body: document, headers: condition(etag) });
            toast(texts.saved);
            await close();
        } });
}

async function remove(name) {
    if (!await confirm(texts.actions.delete, h("p", {}, texts.deleteProfile(name)), texts.actions.delete, true)) return false;
    await call("DELETE", pathOf(name));
    return true;
}

/* ---- all of them ----------------------------------------------------------------------------- */

export async function showProfiles({ body, signal, session }) {
    const editor = h("div", {}), list = h("div", {});
    const load = async () => {
        fill(editor);
        const [{ profiles }, used] = await Promise.all([get("/api/v1/client-profiles", signal), get("/api/v1/summary?by=profile&limit=1000", signal)]);
        const counts = new Map(used.groups.map((group) => [group.value, group.count]));
        fill(list, table(texts.pages.profiles, [{ title: texts.name }, { title: texts.clients, number: true }, { title: texts.fields }, { title: texts.version, number: true }],
            profiles.map((one) => [h("a", { href: pageOf(one.name) }, one.name), clientsOf(one.name, number(counts.get(one.name) ?? 0)),
                Object.keys(one.config ?? {}).join(", "), String(one.version)])));
    };
    const create = () => {
        const given = field(texts.profileName, "name", { required: true });
        const name = () => given.querySelector("input").value.trim();
        fill(editor, h("h2", {}, texts.newProfile), given, drawProfileEditor({ name, config: { url: "mqtt://broker.example.com:1883" }, etag: null, close: load }));
        given.querySelector("input").focus();
    };
    fill(body, h("p", { class: "soft" }, texts.profilesHint), session.may("admin") ? h("div", { class: "actions" }, button(texts.newProfile, create)) : null, editor, list);
    await load();
}

/* ---- one of them ----------------------------------------------------------------------------- */

export async function showProfile({ body, signal, session, rest }) {
    const [name = ""] = rest;
    const load = async () => {
        const [{ json: profile, etag }, used] = await Promise.all([call("GET", pathOf(name), { signal }),
            get(`/api/v1/summary?by=state&${new URLSearchParams({ profile: name })}`, signal)]);
        const edit = () => {
            fill(body, drawProfileEditor({ name: () => name, config: profile.config, etag, close: load }));
            body.querySelector("textarea").focus();
        };
        fill(body, h("p", {}, clientsOf(name, texts.profileUsers(number(used.count)))), h("pre", { tabindex: 0 }, JSON.stringify(profile.config, null, 2)),
            session.may("admin") ? h("div", { class: "actions" }, button(texts.edit, edit), button(texts.actions.delete, async () => {
                if (await remove(name)) location.hash = "#/profiles";
            }, { class: "danger" })) : null);
    };
    await load();
}
