-- append_events: adds a batch of a node's events to the stream, and publishes it. ARGV[2...]: node, the
-- process that calls, number of the batch, events lost before it, listened (1: somebody listens; 0),
-- length of the stream, then of each event how it is used ('kept', 'live' or 'both') and its JSON text.
-- The use of an incident is what the node's own does ('began', 'lasts' or 'ended'); only the begin and
-- the end of that of the fleet become events.
-- A repeated call with the last number of that node does nothing.
-- Answers: 'OK', and per event its id in the stream ('': not kept, or the call was repeated), for an
-- incident with the text of the event ('': none).

if #ARGV - 7 > BATCH_MAX * 2 then
    return redis.error_reply('ERR too many events')
end
local batch = string.format('%s %s', ARGV[3], ARGV[4])
local batch_key = of_type(EVENTS.BATCH .. ARGV[2], 'string')
if redis.call('GET', batch_key) == batch then
    return { 'OK' }
end
of_type(EVENTS.LOG, 'stream')
of_type(incidents.KEY, 'hash')
local me = node_of(ARGV[2])
redis.call('SET', batch_key, batch, 'PX', 60000)

-- Whether there is room for this node: one that has it no more makes room.
local function has_place(nodes)
    local count, ended = 0, nil
    if nodes[ARGV[2]] then
        return true
    end
    for name, one in pairs(nodes) do
        count = count + 1
        ended = not one.open and name or ended
    end
    if count >= incidents.NODES_MAX and ended then
        nodes[ended] = nil
    end
    return count < incidents.NODES_MAX or ended
end

local function end_incident(incident, mine, event)
    local had_it = incident.nodes[ARGV[2]]
    if not had_it or not had_it.open then
        return nil
    end
    incident.nodes[ARGV[2]] = mine
    if incidents.is_open(incident) then
        incidents.write(event.broker, incident)
        return nil
    end
    incident.code, incident.message = event.code, event.message
    return incidents.finish(event.broker, incident, event)
end

-- Returns the text of the event, or nil. Beyond the limit, nodes tell of the begin and the end of theirs.
local function note_incident(phase, text)
    local ok, event = pcall(cjson.decode, text)
    if not ok or type(event) ~= 'table' or type(event.broker) ~= 'string' then
        return nil
    end
    local incident = incidents.read(redis.call('HGET', incidents.KEY, event.broker) or nil)
    local begins = not incident
    if begins and redis.call('HLEN', incidents.KEY) >= incidents.MAX then
        return phase ~= 'lasts' and text or nil
    elseif begins and phase == 'ended' then
        return nil
    end
    local mine = { incarnation = me and me.incarnation or '', at = NOW_MS, open = phase ~= 'ended' }
    for _, field in ipairs(incidents.SUMMED) do
        mine[field] = to_integer(event[field]) or 0
    end
    if phase == 'ended' then
        return end_incident(incident, mine, event)
    end
    incident = incident or { since = NOW_MS - (to_integer(event.lasted_ms) or 0), nodes = {} }
    incident.code, incident.message = event.code, event.message
    if has_place(incident.nodes) then
        incident.nodes[ARGV[2]] = mine
    end
    incidents.write(event.broker, incident)
    return begins and text or nil
end

local answer, texts, ids = { 'OK' }, {}, {}
for i = 8, #ARGV, 2 do
    local use, text, id = ARGV[i], ARGV[i + 1], ''
    local is_incident = use == 'began' or use == 'lasts' or use == 'ended'
    if is_incident then
        text = note_incident(use, text)
    end
    if text and use ~= 'live' then
        id = redis.call('XADD', EVENTS.LOG, 'MAXLEN', '~', ARGV[7], '*', 'event', text)
    end
    if text and use ~= 'kept' then
        texts[#texts + 1], ids[#ids + 1] = text, '"' .. id .. '"'
    end
    answer[#answer + 1] = is_incident and { id, text or '' } or id
end
if ARGV[6] == '1' or redis.call('EXISTS', EVENTS.LISTENING) == 1 then
    EVENTS.publish(ARGV[3], ARGV[4], ARGV[5], texts, ids)
end
return answer
