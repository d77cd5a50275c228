-- history: between common.lua and what a script that writes does itself.
-- Its arguments end with: the process that calls, the number of the call, the highest number of an
-- answered one, how long nothing is assigned after a loss, a token. A Redis that does not know the
-- answered one has lost it: a failover, an older snapshot. Then a new generation is drawn, so that every
-- node says what it runs, and nothing is assigned meanwhile. This call does nothing else.
-- Others notice the same loss, each by its own calls, and need no generation more. But a process that
-- was heard from since the generation was drawn has noticed that loss, or lost nothing then: Redis went
-- back again, and what others have read since is lost, too.
-- Answers then: 'BACK'.

local DRAWN = '' -- beside the processes: when the generation was drawn

local function take_last()
    return table.remove(ARGV)
end

local TOKEN, RESTORING_MS = take_last(), take_last()
local ANSWERED, CALL, CALLER = take_last(), take_last(), take_last()

do
    local noted = redis.call('HGET', of_type(SEQUENCE, 'hash'), CALLER)
    local known, heard = string.match(noted or '', '^(%d+) (%d+)$')
    known, heard = whole(known) or 0, whole(heard) or 0
    local answered = tonumber(ANSWERED)
    redis.call('HSET', SEQUENCE, CALLER,
        string.format('%.0f %.0f', math.max(known, answered, tonumber(CALL)), NOW_MS))
    if known < answered then
        local drawn = redis.call('HGET', SEQUENCE, DRAWN) or ''
        if not restoring() or heard >= (whole(string.match(drawn, '%d+$')) or 0) then
            redis.call('SET', GENERATION, TOKEN)
            redis.call('HSET', SEQUENCE, DRAWN, string.format('0 %.0f', NOW_MS))
        end
        restore_for(RESTORING_MS)
        return { 'BACK' }
    end
end

