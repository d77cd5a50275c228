-- read_events: a page of the stream of events. ARGV[2...]: the id after which it begins, maximum number.
-- Answers: 'OK', whether the stream has that id (1 or 0), its first id ('': it is empty), ids and texts.

if redis.call('TYPE', EVENTS.LOG).ok ~= 'stream' then
    return { 'OK', 0, '', {} }
end
local after = ARGV[2]
local known = #redis.call('XRANGE', EVENTS.LOG, after, after)
local first = redis.call('XRANGE', EVENTS.LOG, '-', '+', 'COUNT', 1)[1]
local rows = {}
for _, entry in ipairs(redis.call('XRANGE', EVENTS.LOG, '(' .. after, '+', 'COUNT', ARGV[3])) do
    rows[#rows + 1] = entry[1]
    rows[#rows + 1] = entry[2][2]
end
return { 'OK', known, first and first[1] or '', rows }
