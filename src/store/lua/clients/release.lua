-- release: owned -> waiting, with a reason and a time before which the id is not assigned; or owned
-- -> owned by a target, with a new epoch, if the target accepts it (otherwise the id waits).
-- ARGV[2...]: node, incarnation, then id, epoch, version that ran (0: unknown), delay_ms,
-- cooldown_ms_max, code, message, failed (1 or 0), error, target ('': none), its incarnation, history
-- ('': as stored) of each.
-- Skipped: an id that this incarnation does not own at this epoch, and an id with a version that
-- Redis has lost, which must be restored first.
-- Answers: 'OK', how many moved, how many of these to their targets.

if #ARGV - 3 > BATCH_MAX * 12 then
    return redis.error_reply('ERR too many ids')
end
local node, incarnation = ARGV[2], ARGV[3]
check()
redis.call('LLEN', bind_key(node))
of_type(HISTORY, 'hash')

-- Each cool-down is twice the previous one, on any node, until the client was stable for long
-- enough.
local function cool_down(attempt, cooldown_ms_min, cooldown_ms_max)
    local before = attempt.calm and stable_long_enough(attempt) and 0 or attempt.rest
    attempt.rest = math.max(cooldown_ms_min, math.min(2 * before, cooldown_ms_max))
    attempt.rest_until = NOW_MS + attempt.rest
    attempt.calm = false
    return attempt.rest
end

-- A node that may not reach the broker releases the client without a delay while another node has
-- not tried. After that the client waits, longer each time, and all nodes try again.
local DENIED_MAX = 32

local function another_node_may_try(set)
    local entries = redis.call('HSCAN', REGISTER, 0, 'COUNT', DENIED_MAX)[2]
    for i = 1, math.min(#entries, 2 * DENIED_MAX + 2), 2 do
        local other = node_of(entries[i])
        if other.state == 'live' and other.incarnation ~= '' and not set[other.incarnation] and
            heartbeat_of(other.name) == other.incarnation then
            return true
        end
    end
    return false
end

local function note_denial(id, attempt, delay_ms)
    local version = meta_of(id).version
    local list, set = denials_of(attempt, version)
    if #list == 0 and attempt.denied_version ~= version then
        attempt.denied_rounds = 0
    end
    local again = set[incarnation]
    list[#list + 1] = incarnation
    set[incarnation] = true
    attempt.denied, attempt.denied_version = list, version
    if not again and #list < DENIED_MAX and another_node_may_try(set) then
        return 0
    end
    local rounds = attempt.denied_rounds or 0
    attempt.denied, attempt.denied_rounds = nil, rounds + 1
    return math.min(delay_ms * 2 ^ math.min(rounds, 16), math.max(delay_ms, DENIED_MS_MAX))
end

local function note(attempt, code, message, failed, error)
    if failed then
        attempt.count = attempt.count + 1
    end
    attempt.code, attempt.message, attempt.node, attempt.at = code, message, node, NOW_MS
    attempt.error = error
end

-- The free places of the targets. Read before the first write, so that a list of a wrong type fails
-- nothing.
local room = {}
local function note_target(name, target_incarnation)
    local key = name .. '\n' .. target_incarnation
    if name ~= '' and name ~= node and not room[key] then
        local target = accepting(name, target_incarnation)
        local len = target and redis.pcall('LLEN', bind_key(name))
        room[key] = type(len) == 'number' and target.size - len or 0
    end
end

-- Leaves the id waiting if the target does not accept it, if somebody wrote another configuration by
-- hand, or if the address policy of the target denies the broker.
local moved = 0
local function hand_to(name, target_incarnation, id, attempt)
    local key = name .. '\n' .. target_incarnation
    local meta = meta_of(id)
    local _, denied_by = denials_of(attempt, meta.version)
    if (room[key] or 0) <= 0 or denied_by[target_incarnation] or meta.identity == '' or
        identity_owner(meta.identity, id) then
        return
    end
    to_owned(id, redis.call('HGET', NO, id), {
        node = name,
        incarnation = target_incarnation,
        epoch = next_epoch(meta.epoch + 1),
        version = meta.version,
        since = NOW_MS,
    })
    room[key] = room[key] - 1
    moved = moved + 1
    return true
end

for i = 4, #ARGV, 12 do
    note_target(ARGV[i + 9], ARGV[i + 10])
end
local released = {}
for i = 4, #ARGV, 12 do
    local id, epoch, version = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local delay_ms, cooldown_ms_max = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
    local code, message, failed, error = ARGV[i + 5], ARGV[i + 6], ARGV[i + 7], ARGV[i + 8]
    local config = redis.call('HGET', USE, id)
    local owner = config and owner_of(id)
    if owned_by(owner, node, incarnation) and owner.epoch == epoch and owner.version >= version then
        local attempt = attempt_of(id)
        to_waiting(id, config, owner)
        if code == 'broker_denied' then
            delay_ms = note_denial(id, attempt, delay_ms)
        elseif cooldown_ms_max > delay_ms then
            delay_ms = cool_down(attempt, delay_ms, cooldown_ms_max)
        end
        delay_retry(id, attempt, delay_ms)
        local handed = delay_ms == 0 and hand_to(ARGV[i + 9], ARGV[i + 10], id, attempt)
        note(attempt, code, message, failed == '1' and not handed, error)
        set_attempt(id, attempt)
        if ARGV[i + 11] ~= '' then
            redis.call('HSET', HISTORY, id, ARGV[i + 11])
        end
        released[#released + 1] = id
    end
end
if #released > 0 then
    unbind(node, released)
    if moved > 0 then
        write_epoch()
    end
    commit_changes()
end
if #released > moved then
    wake()
end
return { 'OK', #released, moved }
