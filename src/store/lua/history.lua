-- history: between common.lua and what a script that writes does itself.
-- Its arguments end with: the process that calls, the number of the call, the highest number of an
-- answered one, how long nothing is assigned after a loss, a token. A Redis that does not know the
-- answered one has lost it: a failover, an older snapshot. Then a new generation is drawn, so that every
-- node says what it runs, and nothing is assigned meanwhile. This call does nothing else.
-- Answers then: 'BACK'.

local function take_last()
    return table.remove(ARGV)
end

local TOKEN, RESTORING_MS = take_last(), take_last()
local ANSWERED, CALL, CALLER = take_last(), take_last(), take_last()

do
    local noted = redis.call('HGET', of_type(SEQUENCE, 'hash'), CALLER)
    local known = whole(noted and string.match(noted, '^%d+')) or 0
    redis.call('HSET', SEQUENCE, CALLER,
        string.format('%.0f %.0f', math.max(known, tonumber(CALL)), NOW_MS))
    if known < tonumber(ANSWERED) then
        if not restoring() then
            redis.call('SET', GENERATION, TOKEN)
        end
        restore_for(RESTORING_MS)
        return { 'BACK' }
    end
end

