-- append_events: adds a batch of a node's events to the stream, and publishes it. ARGV[2...]: node, the
-- process that calls, number of the batch, events lost before it, listened (1: somebody listens; 0),
-- length of the stream, then of each event how it is used ('kept', 'live' or 'both') and its JSON text.
-- A repeated call with the last number of that node does nothing.
-- Answers: 'OK', and per event its id in the stream ('': not kept, or the call was repeated).

if #ARGV - 7 > BATCH_MAX * 2 then
    return redis.error_reply('ERR too many events')
end
local batch = string.format('%s %s', ARGV[3], ARGV[4])
local batch_key = of_type(EVENTS.BATCH .. ARGV[2], 'string')
if redis.call('GET', batch_key) == batch then
    return { 'OK' }
end
of_type(EVENTS.LOG, 'stream')
redis.call('SET', batch_key, batch, 'PX', 60000)

local answer, texts, ids = { 'OK' }, {}, {}
for i = 8, #ARGV, 2 do
    local use, text, id = ARGV[i], ARGV[i + 1], ''
    if use ~= 'live' then
        id = redis.call('XADD', EVENTS.LOG, 'MAXLEN', '~', ARGV[7], '*', 'event', text)
    end
    if use ~= 'kept' then
        texts[#texts + 1], ids[#ids + 1] = text, '"' .. id .. '"'
    end
    answer[#answer + 1] = id
end
if ARGV[6] == '1' or redis.call('EXISTS', EVENTS.LISTENING) == 1 then
    redis.call('PUBLISH', EVENTS.CHANNEL, string.format(
        '{"from":"%s","batch":%s,"lost":%s,"events":[%s],"ids":[%s]}', ARGV[3], ARGV[4], ARGV[5],
        table.concat(texts, ','), table.concat(ids, ',')))
end
return answer
