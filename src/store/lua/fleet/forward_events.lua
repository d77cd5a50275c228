-- forward_events: a page of the stream of events for the sink of events, which the leader feeds.
-- ARGV[2...]: node, the last id that it has passed on ('': none), maximum number.
-- Refused: the node does not lead.
-- Answers: 'OK', ids and texts of the events after the last one that was passed on | 'REFUSED'. If that
-- one is no longer kept, others after it may be missing: then an event about it comes first.

local sent_key = of_type(EVENTS.SENT, 'string')
local decoded, leader = pcall(cjson.decode, redis.pcall('GET', LEADER))
if not decoded or type(leader) ~= 'table' or leader.node ~= ARGV[2] then
    return { 'REFUSED' }
end

local function place_of(id)
    local ms, number = string.match(id or '', '^(%d+)%-(%d+)$')
    return tonumber(ms or 0), tonumber(number or 0)
end

-- A node that leads again may not know how far the leaders between have come.
local sent = redis.call('GET', sent_key)
local ms, number = place_of(sent)
local done_ms, done_number = place_of(ARGV[3])
if done_ms > ms or (done_ms == ms and done_number > number) then
    sent = ARGV[3]
    redis.call('SET', sent_key, sent)
elseif ms == 0 then
    sent = '0-0' -- none, or somebody wrote it by hand
end
if redis.call('TYPE', EVENTS.LOG).ok ~= 'stream' then
    return { 'OK', {} }
end
local rows = {}
for _, entry in ipairs(redis.call('XRANGE', EVENTS.LOG, '(' .. sent, '+', 'COUNT', ARGV[4])) do
    rows[#rows + 1] = entry[1]
    rows[#rows + 1] = entry[2][2]
end
if #rows > 0 and sent ~= '0-0' and #redis.call('XRANGE', EVENTS.LOG, sent, sent) == 0 then
    table.insert(rows, 1, sent)
    table.insert(rows, 2, cjson.encode({ at = EVENTS.rfc3339(NOW_MS), kind = 'gap', after = sent, first = rows[2] }))
end
return { 'OK', rows }
