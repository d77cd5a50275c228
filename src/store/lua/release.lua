-- release: owned -> waiting, with a reason and a time before which nobody claims it.
-- ARGV[2...]: node, incarnation, then id, epoch, delay_ms, rest_ms_max, code, message, failed (1 or
-- 0), error of each.
-- Skipped: an id that is not this incarnation's at this epoch; it is somebody else's by now.
-- Answers: 'OK', how many moved.

if #ARGV - 3 > BATCH_MAX * 8 then
    return redis.error_reply('ERR too many ids')
end
local node, incarnation = ARGV[2], ARGV[3]
check()
redis.call('LLEN', bind_key(node))

-- Each rest is twice the one before, on whichever node that was, until it was stable and at peace.
local function rest(attempt, least_ms, most_ms)
    local before = attempt.calm and long_peace(attempt) and 0 or attempt.rest
    attempt.rest = math.max(least_ms, math.min(2 * before, most_ms))
    attempt.rest_until = NOW_MS + attempt.rest
    attempt.calm = false
    return attempt.rest
end

local function note(attempt, code, message, failed, error)
    if failed then
        attempt.count = attempt.count + 1
    end
    attempt.code, attempt.message, attempt.node, attempt.at = code, message, node, NOW_MS
    attempt.error = error
end

local released = {}
for i = 4, #ARGV, 8 do
    local id, epoch = ARGV[i], tonumber(ARGV[i + 1])
    local delay_ms, rest_ms_max = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    local config = redis.call('HGET', USE, id)
    local owner = config and owner_of(id)
    if owned_by(owner, node, incarnation) and owner.epoch == epoch then
        local attempt = attempt_of(id)
        to_waiting(id, config)
        if rest_ms_max > delay_ms then
            delay_ms = rest(attempt, delay_ms, rest_ms_max)
        end
        put_off(id, attempt, delay_ms)
        note(attempt, ARGV[i + 4], ARGV[i + 5], ARGV[i + 6] == '1', ARGV[i + 7])
        set_attempt(id, attempt)
        released[#released + 1] = id
    end
end
if #released > 0 then
    unbind(node, released)
    resize(node)
    bump(node)
    wake('')
end
return { 'OK', #released }
