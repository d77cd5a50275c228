-- forward_events: a page of the stream of events for the sink of events, which the leader feeds.
-- ARGV[2...]: node, the last id that it has passed on ('': none), maximum number.
-- Refused: the node does not lead.
-- Answers: 'OK', ids and texts of the events after the last one that was passed on | 'REFUSED'.

local sent_key = of_type(EVENTS.SENT, 'string')
local decoded, leader = pcall(cjson.decode, redis.pcall('GET', LEADER))
if not decoded or type(leader) ~= 'table' or leader.node ~= ARGV[2] then
    return { 'REFUSED' }
end
if ARGV[3] ~= '' then
    redis.call('SET', sent_key, ARGV[3])
end
if redis.call('TYPE', EVENTS.LOG).ok ~= 'stream' then
    return { 'OK', {} }
end
local sent = redis.call('GET', sent_key) or '0-0'
local rows = {}
for _, entry in ipairs(redis.call('XRANGE', EVENTS.LOG, '(' .. sent, '+', 'COUNT', ARGV[4])) do
    rows[#rows + 1] = entry[1]
    rows[#rows + 1] = entry[2][2]
end
return { 'OK', rows }
