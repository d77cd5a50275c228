"""The mutations. Whoever writes a test of a promise adds the line that, when it is broken, the test is
to see; whoever changes that line changes it here as well."""

import typing


class Mutation(typing.NamedTuple):
    title: str    # what goes wrong
    file: str
    line: str     # stands exactly once in the file
    instead: str
    judge: str    # a unit test as ctest names it, or an end-to-end test as pytest does


MEMBERSHIP, LEADER = "cluster/test_membership", "cluster/test_leader"
RELEASES, REAPER = "cluster/test_releases", "cluster/test_reaper"
NODES, LEAD = "store/test_store_node", "store/test_store_lead"
ASSIGN, RESTORE = "store/test_store_assign", "store/test_store_restore"
CHANGES, HISTORY = "store/test_store_changes", "store/test_store_history"
RECONCILE, SCHEDULE = "cluster/test_reconcile", "cluster/test_schedule"
PLACEMENT, NODE = "cluster/test_placement", "cluster/test_node"
HOST, TROUBLE, RACE = "mqtt/test_host", "mqtt/test_host_trouble", "mqtt/test_race"
LATE = "mqtt/test_host_late"
STEPS, AHEAD, QUOTA = "mqtt/test_host_steps", "mqtt/test_reactor_ahead", "mqtt/test_publish_quota"

CLUSTER = [
    # ---- joining, fenced, Redis that lost its data
    Mutation("a join that failed is tried at full speed", "src/cluster/membership.c",
             "if (now_ms < agent->join_next_ms) {", "if (false) {", MEMBERSHIP),
    Mutation("the lease of an earlier process is not waited for", "src/cluster/membership.c",
             "node_membership(agent->wiring.node) == NODE_OUTSIDE && old_lease_lasts(agent)", "false",
             MEMBERSHIP),
    Mutation("slow answers speak for another node under this name", "src/cluster/membership.c",
             "if (took_ms > conf->heartbeat_ms) {", "if (false) {", MEMBERSHIP),
    Mutation("another live node under this name is never told", "src/cluster/membership.c",
             "if (now_ms - agent->name_taken_since_ms > 2 *", "if (now_ms - agent->name_taken_since_ms > 20 *",
             MEMBERSHIP),
    Mutation("a fenced node joins anew while it is still closing", "src/cluster/membership.c",
             "    if (result == ERR_OK) {\n        node_outside", "    if (true) {\n        node_outside",
             MEMBERSHIP),
    Mutation("a fenced node keeps what it was to release", "src/cluster/membership.c",
             "    releases_forget(agent);\n", "", MEMBERSHIP),
    Mutation("a node declared dead while Redis lost its data goes on", "src/cluster/membership.c",
             "} else if (result == ERR_FENCED) {", "} else if (false) {", MEMBERSHIP),
    Mutation("after a join nothing is compared", "src/cluster/membership.c",
             "    agent->reconcile_now = true;\n", "", MEMBERSHIP),
    Mutation("a node that Redis forgot takes a new incarnation", "src/cluster/node.c",
             "bool again = node->membership == NODE_LOST;", "bool again = false;", MEMBERSHIP),
    # ---- leading
    Mutation("who is not told that it leads goes on leading", "src/cluster/leader.c",
             "        role = STORE_ROLE_NONE;\n    }\n", "        role = leader->role;\n    }\n", LEADER),
    Mutation("who does not lead buries", "src/cluster/leader.c",
             "if (verdicts && leader->role == STORE_ROLE_LEADER) {", "if (verdicts) {", LEADER),
    Mutation("a look that failed counts for nothing bad", "src/cluster/leader.c",
             "        reaper_forget(leader->reaper);\n        return;\n", "        return;\n", LEADER),
    Mutation("a node is buried although its fence was refused", "src/cluster/leader.c",
             "if (verdicts[i] && fence(leader, &missing[i])) {",
             "if (verdicts[i] && (fence(leader, &missing[i]) || true)) {", LEADER),
    Mutation("the dead of earlier looks are not reaped", "src/cluster/leader.c",
             "if (missing[i].state == STORE_NODE_DEAD) {\n            reap", "if (verdicts[i]) {\n            reap",
             LEADER),
    Mutation("one batch of a dead node is reaped and no more", "src/cluster/leader.c",
             " 100 /* in one step */", " 1 /* in one step */", LEADER),
    Mutation("a missing beat is judged at once", "src/cluster/reaper.c",
             "look->now_ms - suspect->since_ms >= wait_ms;", "true;", REAPER),
    Mutation("mass death does not brake", "src/cluster/reaper.c",
             "*braked = missing > 0 && (mass || redis_new);", "*braked = false;", REAPER),
    # ---- releases
    Mutation("a release that failed is tried at full speed", "src/cluster/releases.c",
             "#define RELEASE_RETRY_MS 500", "#define RELEASE_RETRY_MS 0", RELEASES),
    Mutation("a release that failed is forgotten", "src/cluster/releases.c",
             "    if (result == ERR_OK && released == n) {", "    if (released <= n) {", RELEASES),
    Mutation("what became of a lost release is not asked", "src/cluster/releases.c",
             "        result = releases_judge(agent, &member, n);\n", "", RELEASES),
    Mutation("after a judged release nothing is compared", "src/cluster/releases.c",
             "    agent->reconcile_now = true;\n", "", RELEASES),
    Mutation("a client that Redis lost while it left is lost", "src/cluster/releases.c",
             "if (lost && leaving && leaving->identity) {", "if (lost && false) {", RELEASES),
    Mutation("an older epoch replaces the release of a newer", "src/cluster/releases.c",
             "if (known && known->epoch > task->epoch) {", "if (false) {", RELEASES),
    Mutation("a client given away is released before it has closed", "src/cluster/releases.c",
             "    leaving_stop(agent, leaving);\n}\n\n/* ---- tasks",
             "    leaving_stop(agent, leaving);\n    struct stopped_note *note = calloc(1, sizeof *note + 99);\n"
             "    note->agent = agent; note->epoch = epoch; strcpy(note->id, id);\n"
             "    client_stopped(note);\n}\n\n/* ---- tasks", RELEASES),
    Mutation("a stop without room is not asked for again", "src/cluster/releases.c",
             "if (!closed && clock_ms() - leaving->asked_ms > LEAVING_RETRY_MS) {", "if (false) {", RELEASES),
    Mutation("a node alone gives its clients back", "src/cluster/releases.c",
             "return !node_alone(agent->wiring.node) ||", "return true ||", RELEASES),
    Mutation("a drain gives away more than there is room for", "src/cluster/releases.c",
             "i < n && room > 0 &&", "i < n &&", RELEASES),
    # ---- what runs against what Redis says
    Mutation("the periodic comparison never finds anything", "src/cluster/reconcile.c",
             "if (digest != set->digest && agent->sums_differed) {", "if (digest < 0) {", RECONCILE),
    Mutation("the full pass never runs by itself", "src/cluster/reconcile.c",
             "now_ms - agent->full_ms >= FULL_PASS_MS", "false", RECONCILE),
    Mutation("what Redis lost is stopped", "src/cluster/reconcile.c",
             "    case STORE_EVIDENCE_NONE:\n    case STORE_EVIDENCE_OLDER:\n        break;",
             "    case STORE_EVIDENCE_NONE:\n    case STORE_EVIDENCE_OLDER:\n        return stop_client(turn, held, \"\");",
             RECONCILE),
    Mutation("clients are opened while nodes put back what they run", "src/cluster/reconcile.c",
             "} else if (owned && !running && turn->restoring) {", "} else if (false) {", RECONCILE),
    Mutation("changes that were not noted are not looked for", "src/cluster/reconcile.c",
             "if (set->gap > agent->applied_rev || set->rev < agent->applied_rev) {", "if (false) {", RECONCILE),
    Mutation("a change that could not be applied counts as applied", "src/cluster/reconcile.c",
             "limit = !turn->complete && before < limit ? before : limit;", "limit = before < 0 ? before : limit;", RECONCILE),
    Mutation("what is on its way out is started", "src/cluster/reconcile.c",
             "if (releases_leaving(turn->agent, order->id) || turn->gave_in) {", "if (turn->gave_in) {",
             RECONCILE),
    # ---- placing what waits
    Mutation("a fleet that puts back is asked node by node", "src/cluster/schedule.c",
             "node < round.node_count && !round.restoring; node++", "node < round.node_count; node++", SCHEDULE),
    Mutation("a node that failed a client gets it at once", "src/cluster/schedule.c",
             "row->attempts > 0 ? row->attempt_node : NULL", "NULL", SCHEDULE),
    Mutation("a node that lags gets clients", "src/cluster/placement.c",
             "count += taker->facts.lag_ms < LAG_MS_MAX;", "count++;", PLACEMENT),
    Mutation("a node without the sink gets clients", "src/cluster/placement.c",
             "return !node->facts.told || facts_sink(&node->facts, need->sink);",
             "return !node->facts.told || need;", PLACEMENT),
    Mutation("a node without the key gets clients", "src/cluster/placement.c",
             "all = facts_has_key(&node->facts, need->keys.ids[i]);", "all = true;", PLACEMENT),
    Mutation("a sink that has long failed is as good as any", "src/cluster/placement.c",
             "sink->failing_ms >= SINK_TROUBLE_MS;", "sink->failing_ms < 0;", PLACEMENT),
    # ---- beats
    Mutation("a node whose agent stalls goes on beating", "src/cluster/node.c",
             "return member && !agent_hangs(node);", "return member && (!agent_hangs(node) || true);", NODE),
    Mutation("a loss that only this node can know of is not told", "src/cluster/node.c",
             "if (result == ERR_OK && store_went_back(node->store)) {", "if (false) {", NODE),
    Mutation("a later change makes the lag younger", "src/cluster/node.c",
             "if (node->behind_since_ms == 0 && node->applied_rev < node->last.rev) {",
             "if (node->applied_rev < node->last.rev) {", NODE),
]

STORE = [
    Mutation("a node that beats is reaped", "src/store/lua/reap.lua",
             "if beats(name, node) then", "if false then", NODES),
    Mutation("a node that beats is fenced", "src/store/lua/fence.lua",
             "if beats(target, node) then", "if false then", NODES),
    Mutation("who does not beat fences", "src/store/lua/fence.lua",
             " or beat_of(caller) ~= ARGV[3] then", " then", NODES),
    Mutation("another incarnation is fenced", "src/store/lua/fence.lua",
             "if node.incarnation ~= ARGV[5] then", "if false then", NODES),
    Mutation("a live node's name is taken over", "src/store/lua/join.lua",
             "if beat_of(name) ~= incarnation and beats(name, earlier) then", "if false then", NODES),
    Mutation("who was declared dead joins under the same incarnation", "src/store/lua/join.lua",
             "if outlawed(incarnation) or (mine and earlier.state == 'dead') then", "if false then", NODES),
    Mutation("who was declared dead is only taken for lost", "src/store/lua/beat.lua",
             "if outlawed(incarnation) or (registered", "if (registered", NODES),
    Mutation("any number of nodes stand by", "src/store/lua/lead.lua",
             "if redis.call('ZSCORE', standby, node) or redis.call('ZCARD', standby) < STANDBYS_MAX then",
             "if true then", LEAD),
    Mutation("undrain makes a node that ends live again", "src/store/lua/drain.lua",
             "if node.state == 'dead' or node.state == 'leaving' then", "if node.state == 'dead' then", LEAD),
    # ---- assigning
    Mutation("a node that does not beat gets clients", "src/store/lua/assign.lua",
             "if not target or beat_of(node) ~= incarnation then", "if not target then", ASSIGN),
    Mutation("a node gets more than its size", "src/store/lua/assign.lua",
             "if size >= target.size then", "if false then", ASSIGN),
    Mutation("a node that ends gets clients", "src/store/lua/assign.lua",
             "if target.state ~= 'live' then", "if target.state == 'draining' then", LEAD),
    Mutation("clients are assigned while nodes put back what they run", "src/store/lua/assign.lua",
             "if restoring() then", "if false then", HISTORY),
    Mutation("a client is assigned before its time", "src/store/lua/assign.lua",
             "if waiting and not_before(id) > NOW_MS then", "if false then", ASSIGN),
    # ---- what changed of a node's set, and its sum
    Mutation("what a node loses stays in its sum", "src/store/lua/common.lua",
             "change.delta = (change.delta - digest_part(id, owner)) % DIGEST_MODULUS", "change.delta = change.delta",
             CHANGES),
    Mutation("the sum of many loses its last bits", "src/store/lua/common.lua",
             "change.delta = (change.delta - digest_part(id, owner)) % DIGEST_MODULUS",
             "change.delta = change.delta - digest_part(id, owner)", CHANGES),
    Mutation("a change that was not noted is no gap", "src/store/lua/common.lua",
             "if rev == 0 or noted.err or whole(noted[1]) ~= rev then", "if noted.err then", CHANGES),
    Mutation("each change prolongs a gap", "src/store/lua/common.lua",
             "'gap', string.format('%.0f', gap),", "'gap', string.format('%.0f', gap == before and rev or gap),",
             CHANGES),
    Mutation("changes that nobody reads pile up", "src/store/lua/common.lua",
             "if redis.call('ZCARD', changed) > CHANGES_MAX then", "if false then", CHANGES),
    Mutation("a page of changes begins with what was read", "src/store/lua/changes.lua",
             "and not is_after(id, last_id)", "and false", CHANGES),
    Mutation("a sum is kept although the list has changed", "src/store/lua/digest.lua",
             "if rev_of(node) ~= whole(rev) then", "if false then", CHANGES),
    # ---- a Redis that went back
    Mutation("a loss is not noticed", "src/store/lua/history.lua",
             "if known < tonumber(ANSWERED) then", "if false then", HISTORY),
    Mutation("each process draws a generation of its own", "src/store/lua/history.lua",
             "if not restoring() then", "if true then", HISTORY),
    Mutation("a process is not told of a loss", "src/store/store.c",
             "atomic_store(&store->history->went_back, true);", "", HISTORY),
    Mutation("a version is given twice", "src/store/lua/common.lua",
             "return math.max(version + 1, NOW_MS)", "return version + 1", HISTORY),
    Mutation("a newer text is not looked for while a client waits", "src/store/lua/common.lua",
             "return meta.epoch >= epoch and meta.version >= version and 'WAITING' or 'OLDER'",
             "return meta.epoch >= epoch and 'WAITING' or 'OLDER'", HISTORY),
    Mutation("a newer text is not looked for while another owns a client", "src/store/lua/common.lua",
             "return owner.epoch >= epoch and meta.version >= version and 'NEWER' or 'OLDER', owner",
             "return owner.epoch >= epoch and 'NEWER' or 'OLDER', owner", HISTORY),
    Mutation("a restore puts an older text over a newer one", "src/store/lua/restore.lua",
             "if present and meta.version > item.version then", "if false then", HISTORY),
    Mutation("a tombstone stands against what is newer", "src/store/lua/common.lua",
             "if tombstone and tombstone.version >= version and tombstone.epoch >= epoch then", "if tombstone then",
             HISTORY),
    Mutation("a delete after the loss is undone", "src/store/lua/delete.lua",
             "owner and owner.epoch or 0, NOW_US)", "owner and owner.epoch or 0)", HISTORY),
    Mutation("a restore gives an epoch that was given before", "src/store/lua/restore.lua",
             "epoch = epoch_after(math.max(item.epoch, meta.epoch)),", "epoch = epoch_after(0),", HISTORY),
    Mutation("a restored client takes another's identity", "src/store/lua/restore.lua",
             "    if identity_holder(text.identity, id) then", "    if false then", HISTORY),
]

MQTT = [
    Mutation("a publication past its deadline is still sent", "src/mqtt/host/host_publication.c",
             "bool late = publication->deadline_ms <= clock_ms();", "bool late = false;", LATE),
    Mutation("the lease is not checked just before a connection is opened", "src/mqtt/host/host_connect.c",
             "    if (!host->owner->lease_valid(host->owner->context)) {\n        host_requeue",
             "    if (false) {\n        host_requeue", LATE),
    Mutation("a publication that the engine refuses is not freed", "src/mqtt/host/host_publication.c",
             "                       full_sink ? GIVE_UP_SINK_FULL : 0);\n    host_publication_free(publication);\n",
             "                       full_sink ? GIVE_UP_SINK_FULL : 0);\n", STEPS),
    Mutation("the session is kept when the broker or the identifier changes",
             "src/mqtt/host/host_connect.c",
             "        !client_config_same_connection(client->session_of->config, config->config)) {",
             "        false) {", LATE),
    Mutation("no jitter in the rests of a conflict", "src/mqtt/host/host_loss.c",
             "return time_ms + text_random_between(0, time_ms / 4);", "return time_ms;", STEPS),
    Mutation("a publication that is refused at once is not freed", "src/mqtt/host/hosts_publish.c",
             "    if (result != ERR_OK) {\n        host_command_free(command);\n", "    if (result != ERR_OK) {\n",
             STEPS),
    Mutation("what a broker has of the node is never given back", "src/mqtt/host/host_publication.c",
             "        publish_share_release(publication->share, publication->bytes);\n", "", STEPS),
    Mutation("a silent broker takes all callers there may be", "src/mqtt/host/publish_quota.c",
             "#define QUOTA_TIMES_FREE    2", "#define QUOTA_TIMES_FREE    2000", QUOTA),
    Mutation("a broker without publications may get none", "src/mqtt/host/publish_quota.c",
             "#define QUOTA_WAITING_LEAST 4", "#define QUOTA_WAITING_LEAST 0", QUOTA),
    # ---- a full sink
    Mutation("what stands behind a message waits for its sink", "src/mqtt/reactor/ahead.c",
             "    return frame->type == PACKET_PUBLISH;", "    return true;", AHEAD),
    Mutation("nothing bounds what waits for a sink", "src/mqtt/reactor/ahead.c",
             "#define AHEAD_BYTES_MAX  262144", "#define AHEAD_BYTES_MAX  26214400", AHEAD),
    Mutation("who waits for its broker's answer has no share of its own", "src/mqtt/reactor/ahead.c",
             "return (ahead_waits_for_answer(connection) ? 3 : 2) * quarter;", "return 2 * quarter;", AHEAD),
    Mutation("our own pause is held against the broker", "src/mqtt/reactor/connection.c",
             "    if (connection->reading == READING_NOTHING) {", "    if (false) {", AHEAD),
    Mutation("who was served first is served first again", "src/mqtt/reactor/engine.c",
             "            served = first;\n", "", AHEAD),
    Mutation("QoS 0 that waits goes down with its connection", "src/mqtt/reactor/connection.c",
             "    ahead_end(connection);\n    if (connection->reading", "    if (connection->reading", AHEAD),
    # ---- addresses
    Mutation("of several addresses only the first is tried", "src/mqtt/reactor/race.c",
             "    if (race->begun < race->addresses.count || race->refused) {", "    if (race->refused) {",
             RACE),
]

RING, WRITER = "base/test_log_ring", "base/test_log_writer"

BASE = [
    # ---- the log
    Mutation("a burst of informative lines pushes out errors", "src/base/log_ring.c",
             "[LOG_DEBUG] = 6, [LOG_INFO] = 6,", "[LOG_DEBUG] = 7, [LOG_INFO] = 7,", RING),
    Mutation("errors push out the audit trail", "src/base/log_ring.c",
             "[LOG_WARN] = 7, [LOG_ERROR] = 7,", "[LOG_WARN] = 8, [LOG_ERROR] = 8,", RING),
    Mutation("callers wait for the reader of the log", "src/base/log_writer.c",
             "    if (!atomic_load_explicit(&running, memory_order_acquire)) {", "    if (true) {", WRITER),
    Mutation("dropped lines are not told", "src/base/log_writer.c",
             "    if (log_ring_has_lost(writer.ring) &&", "    if (false && log_ring_has_lost(writer.ring) &&",
             WRITER),
    Mutation("a line waits in the ring until the next one comes", "src/base/log_writer.c",
             "        atomic_store(&writer.waiting, true); /* before it looks a last time */\n", "", WRITER),
    Mutation("a line that a full disk cut is begun again", "src/base/log_writer.c",
             "            data += n;\n            len -= (size_t)n;\n",
             "            data += (size_t)n == len ? n : 0;\n            len -= (size_t)n == len ? len : 0;\n",
             WRITER),
    Mutation("a stop waits for whoever reads the log", "src/base/log_writer.c",
             "           now_ms - moved_ms < STILL_MS) {", "           true) {", WRITER),
    # ---- requests that wait
    Mutation("what a caller leaves under way is counted no more when it hangs up", "src/http/pending.c",
             "(PENDING_UNTIL_SOURCE | PENDING_OUTLIVES_CALLER)", "PENDING_UNTIL_SOURCE", "http/test_pending"),
    Mutation("a wait looks closed before whoever closed it holds it", "src/http/pending.c",
             "    atomic_fetch_add(&pending->users, 1); /* before others see that it is closed */\n"
             "    pending_close(pending);\n",
             "    pending_close(pending);\n    atomic_fetch_add(&pending->users, 1);\n", "http/test_pending"),
    # ---- memory, clocks
    Mutation("memory that ran out is said to be a failure of the node", "src/http/problem.c",
             "PROBLEM_REDIS_FULL : PROBLEM_MEMORY;", "PROBLEM_REDIS_FULL : PROBLEM_INTERNAL;",
             "http/test_json"),
    Mutation("the time to the sink is measured by the wall clock", "src/sink/sink.c",
             "now_us - sink->settled[i].message->received_us, 1);",
             "now_us - sink->settled[i].message->received_us +\n"
             "(clock_wall_ms() - sink->settled[i].message->received_at_ms) * 1000, 1);", "sink/test_sink"),
]

MUTATIONS = CLUSTER + STORE + MQTT + BASE
