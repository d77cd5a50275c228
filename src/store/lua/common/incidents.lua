-- The open incidents of the fleet: one for each broker, with the nodes that have told of it. The
-- first node that tells of it begins it, and it ends when no node has it any more.

local incidents = {
    KEY = PREFIX .. 'mqtt_fleet:incidents',
    CHECKED = PREFIX .. 'mqtt_fleet:incidents_checked',
    MAX = 1000, -- brokers
    NODES_MAX = 200, -- of one broker
    CONFIRMED_MS = 200000, -- nodes confirm theirs once a minute
    CHECK_MS = 5000,
    SUMMED = { 'clients', 'waiting', 'failures' },
}

-- nil: text is nil. Invalid parts are left out.
function incidents.read(text)
    local ok, stored = pcall(cjson.decode, text)
    if not text then
        return nil
    end
    stored = ok and type(stored) == 'table' and stored or {}
    local incident = {
        since = to_integer(stored.since) or NOW_MS,
        code = text_or(stored.code, ''),
        message = text_or(stored.message, cjson.null),
        nodes = {},
    }
    for name, one in pairs(type(stored.nodes) == 'table' and stored.nodes or {}) do
        if type(name) == 'string' and type(one) == 'table' then
            incident.nodes[name] = {
                incarnation = text_or(one.incarnation, ''),
                at = to_integer(one.at) or 0,
                open = one.open == true,
            }
            for _, field in ipairs(incidents.SUMMED) do
                incident.nodes[name][field] = to_integer(one[field]) or 0
            end
        end
    end
    return incident
end

function incidents.write(broker, incident)
    redis.call('HSET', incidents.KEY, broker, cjson.encode(incident))
end

function incidents.is_open(incident)
    for _, one in pairs(incident.nodes) do
        if one.open then
            return true
        end
    end
    return false
end

-- Removes it. Returns the event: the sums of all nodes that have had it. at nil: now.
function incidents.finish(broker, incident, last)
    local names = {}
    local event = {
        at = last.at or EVENTS.rfc3339(NOW_MS),
        kind = 'incident',
        broker = broker,
        node = last.node,
        nodes = names,
        state = 'ended',
        reason = last.reason,
        code = incident.code,
        message = incident.message,
        lasted_ms = math.max(NOW_MS - incident.since, 0),
    }
    for _, field in ipairs(incidents.SUMMED) do
        event[field] = 0
        for _, one in pairs(incident.nodes) do
            event[field] = event[field] + one[field]
        end
    end
    for name in pairs(incident.nodes) do
        names[#names + 1] = name
    end
    table.sort(names)
    redis.call('HDEL', incidents.KEY, broker)
    return cjson.encode(event)
end
