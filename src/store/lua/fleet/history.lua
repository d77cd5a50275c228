-- history: follows the common files in each script that writes. The last arguments are: the calling
-- process, the number of the call, the highest number of an answered call, how long nothing is
-- assigned after a loss, a token.
-- A Redis that does not know the answered call has lost it, for example in a failover or with an
-- older snapshot. The script then sets a new generation, so that every node restores its clients,
-- and blocks assignments meanwhile. The call does nothing else and answers 'BACK'.
-- Other processes notice the same loss by their own calls and need no further generation. But a
-- process that called after the generation was set had already noticed that loss, or was not
-- affected by it. If it notices a loss, Redis lost data again, including what others have restored.

local GENERATION_SET = '' -- next to the processes: the time at which the generation was set

local function take_last()
    return table.remove(ARGV)
end

local TOKEN, RESTORING_MS = take_last(), take_last()
local ANSWERED, CALL, CALLER = take_last(), take_last(), take_last()

do
    local noted = redis.call('HGET', of_type(SEQUENCE, 'hash'), CALLER)
    local known, called_ms = string.match(noted or '', '^(%d+) (%d+)$')
    known, called_ms = to_integer(known) or 0, to_integer(called_ms) or 0
    local answered = tonumber(ANSWERED)
    redis.call('HSET', SEQUENCE, CALLER,
        string.format('%.0f %.0f', math.max(known, answered, tonumber(CALL)), NOW_MS))
    if known < answered then
        local set_at = redis.call('HGET', SEQUENCE, GENERATION_SET) or ''
        if not restoring() or called_ms >= (to_integer(string.match(set_at, '%d+$')) or 0) then
            redis.call('SET', GENERATION, TOKEN)
            redis.call('HSET', SEQUENCE, GENERATION_SET, string.format('0 %.0f', NOW_MS))
        end
        restore_for(RESTORING_MS)
        return { 'BACK' }
    end
end

