-- audit_page: the records of the ids that were changed last, the latest first; changes nothing.
-- ARGV[2...]: how long the trail is kept in ms; time and id of the last one of the page before, or
-- '', ''.
-- Answers: 'OK', id, time and lines "time from to record" of each, at most BATCH_MAX.

local keep_ms, time, after = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local TIES_MAX = 100 -- pages of ids with the same time

-- Redis orders equal times by the bytes of the ids; the comparison of Lua depends on the locale.
local function precedes(id, other)
    for i = 1, math.min(#id, #other) do
        if id:byte(i) ~= other:byte(i) then
            return id:byte(i) < other:byte(i)
        end
    end
    return #id < #other
end

local function read(offset)
    local found = redis.pcall('ZREVRANGEBYSCORE', AUDITED, time and ARGV[3] or '+inf',
        string.format('(%.0f', NOW_MS - keep_ms), 'WITHSCORES', 'LIMIT', offset, BATCH_MAX)
    return found.err and {} or found
end

local rows, pages = {}, 0
repeat
    local found = read(pages * BATCH_MAX)
    pages = pages + 1
    for i = 1, #found, 2 do
        local id, at = found[i], found[i + 1]
        local is_new = not time or tonumber(at) < time or precedes(id, after)
        if is_new and #rows < BATCH_MAX then
            rows[#rows + 1] = { id, string.format('%.0f', at), audit_lines(id, keep_ms) }
        end
    end
until #rows == BATCH_MAX or #found < 2 * BATCH_MAX or pages == TIES_MAX
return { 'OK', rows }
