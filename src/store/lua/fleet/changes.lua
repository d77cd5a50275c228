-- changes: one page of the changes to a node's set after a rev, the oldest first. Forgets the
-- changes that the node has applied. ARGV[2...]: node, incarnation, rev applied, then rev and id of
-- the last row that was read (the rev applied and '' for the first page). Refused: dead, unknown or
-- another incarnation ('FENCED'). Answers: 'OK', rev, gap, digest, restoring (1 or 0), and of each
-- its rev, id, epoch (0: no longer owned by the node), version, config, its identity if it has a
-- profile ('': none), and its history.

local BYTES_MAX = 1048576 -- of configurations and histories in one page, plus the last one

local node, incarnation, applied = ARGV[2], ARGV[3], ARGV[4]
local last_rev, last_id = ARGV[5], ARGV[6]
if not member(node, incarnation) then
    return { 'FENCED' }
end
-- Compares bytes like a sorted set does. The operators of Lua use the locale of the server.
local function is_after(a, b)
    for i = 1, math.min(#a, #b) do
        if string.byte(a, i) ~= string.byte(b, i) then
            return string.byte(a, i) > string.byte(b, i)
        end
    end
    return #a > #b
end

local changed = of_type(changed_key(node), 'zset')
redis.call('ZREMRANGEBYSCORE', changed, '-inf', applied)

-- One script changes at most a batch of ids, so at most a batch shares the rev of the last row.
local entries = redis.call('ZRANGEBYSCORE', changed, last_rev, '+inf', 'WITHSCORES', 'LIMIT', 0, BATCH_MAX * 2)
local rows, bytes = {}, 0
for i = 1, #entries, 2 do
    local id, rev = entries[i], entries[i + 1]
    local read = to_integer(rev) == to_integer(last_rev) and not is_after(id, last_id)
    if not read and #rows < BATCH_MAX and bytes < BYTES_MAX then
        local used = redis.call('HGET', USE, id)
        local owner = used and owner_of(id)
        if owned_by(owner, node, incarnation) then
            local history = history_of(id)
            rows[#rows + 1] = {
                rev, id, string.format('%.0f', owner.epoch), owner.version, profile_mark.remove(used),
                profile_mark.identity(id, used), history,
            }
            bytes = bytes + #used + #(history or '')
        else
            rows[#rows + 1] = { rev, id, 0, 0, false }
        end
    end
end
local rev = rev_of(node)
return { 'OK', rev, gap_of(node, rev), digest_of(node), restoring() and 1 or 0, rows }
