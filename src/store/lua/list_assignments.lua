-- assigned: one page of what a node owns; the first sets mqtt_size anew, and nothing else changes.
-- ARGV[2...]: node, incarnation, end of the page in the list (-1: the list's end). Pages are read
-- from the list's end to its beginning: what leaves the list meanwhile shifts the rest to where it
-- is yet to be read.
-- Refused: dead, unknown or another incarnation ('FENCED').
-- Answers: 'OK', rev, end of the next page (0: none), restoring (1 or 0), and id, epoch, version of
-- each | 'FENCED'.

local node, incarnation, stop = ARGV[2], ARGV[3], tonumber(ARGV[4])
if not member(node, incarnation) then
    return { 'FENCED' }
end
local len = redis.call('LLEN', bind_key(node))
if stop < 0 then
    resize(node)
end
if stop < 0 or stop > len then
    stop = len
end
local start = math.max(stop - BATCH_MAX, 0)
local rows = {}
local ids = stop > 0 and redis.call('LRANGE', bind_key(node), start, stop - 1) or {}
for _, id in ipairs(ids) do
    local owner = redis.call('HEXISTS', USE, id) == 1 and owner_of(id)
    if owned_by(owner, node, incarnation) then
        rows[#rows + 1] = { id, string.format('%.0f', owner.epoch), owner.version }
    end
end
return { 'OK', rev_of(node), start, restoring() and 1 or 0, rows }
