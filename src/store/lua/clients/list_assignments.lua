-- list_assignments: one page of the clients that a node owns. The first page recomputes mqtt_size;
-- nothing else changes. ARGV[2...]: node, incarnation, end of the page in the list (-1: the end of
-- the list). Pages are read from the end of the list to its beginning: when entries leave the list
-- meanwhile, the others move into the part that is still to be read. Refused: dead, unknown or
-- another incarnation ('FENCED'). Answers: 'OK', rev, end of the next page (0: none), restoring (1
-- or 0), and id, epoch, version of each | 'FENCED'.

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
