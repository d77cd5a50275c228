-- release: owned -> waiting, with a reason and a time before which nobody claims it.
-- ARGV[2...]: node, incarnation, then id, epoch, delay_ms, code, message, failed (1 or 0) of each.
-- Skipped: an id that is not this incarnation's at this epoch; it is somebody else's by now.
-- Answers: 'OK', how many moved.

if #ARGV - 3 > BATCH_MAX * 6 then
    return redis.error_reply('ERR too many ids')
end
local node, incarnation = ARGV[2], ARGV[3]
check()
redis.call('LLEN', bind_key(node))

local function note(id, code, message, failed)
    local attempt = attempt_of(id)
    if failed then
        attempt.count = attempt.count + 1
    end
    attempt.code, attempt.message, attempt.node, attempt.at = code, message, node, NOW_MS
    set_attempt(id, attempt)
end

local released = {}
for i = 4, #ARGV, 6 do
    local id, epoch, delay_ms = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local config = redis.call('HGET', USE, id)
    local owner = config and owner_of(id)
    if owned_by(owner, node, incarnation) and owner.epoch == epoch then
        to_waiting(id, config)
        if delay_ms > 0 then
            redis.call('ZADD', RETRY, NOW_MS + delay_ms, id)
        else
            redis.call('ZREM', RETRY, id)
        end
        note(id, ARGV[i + 3], ARGV[i + 4], ARGV[i + 5] == '1')
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
