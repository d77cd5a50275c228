-- release: owned -> waiting, with a reason and a time before which the id is not assigned.
-- ARGV[2...]: node, incarnation, then id, epoch, version that ran (0: unknown), delay_ms,
-- cooldown_ms_max, code, message, failed (1 or 0), error of each.
-- Skipped: an id that this incarnation does not own at this epoch, and an id with a version that
-- Redis has lost, which must be restored first.
-- Answers: 'OK', how many moved.

if #ARGV - 3 > BATCH_MAX * 9 then
    return redis.error_reply('ERR too many ids')
end
local node, incarnation = ARGV[2], ARGV[3]
check()
redis.call('LLEN', bind_key(node))

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

local released = {}
for i = 4, #ARGV, 9 do
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
        note(attempt, code, message, failed == '1', error)
        set_attempt(id, attempt)
        released[#released + 1] = id
    end
end
if #released > 0 then
    unbind(node, released)
    commit_changes()
    wake()
end
return { 'OK', #released }
