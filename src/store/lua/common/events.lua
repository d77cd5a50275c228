-- The stream of events of the fleet: scripts that change nodes or the leader append to it.

-- A time in ms as 2026-01-01T00:00:00.000Z, by the calendar of Gregory with years that begin in March.
function EVENTS.rfc3339(ms)
    local day = math.floor(ms / 86400000)
    local since = day + 719468 -- days since 0000-03-01
    local era = math.floor(since / 146097)
    local of_era = since - era * 146097
    local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
        - math.floor(of_era / 146096)) / 365)
    local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
    local month = math.floor((5 * of_year + 2) / 153)
    local of_month = of_year - math.floor((153 * month + 2) / 5) + 1
    month = month < 10 and month + 3 or month - 9
    year = year + era * 400 + (month <= 2 and 1 or 0)
    local s = math.floor(ms / 1000) - day * 86400
    return string.format('%04.0f-%02.0f-%02.0fT%02.0f:%02.0f:%02.0f.%03.0fZ', year, month, of_month,
        math.floor(s / 3600), math.floor(s / 60) % 60, s % 60, ms % 1000)
end

-- Returns the id. '': Redis refuses it, because the user may not, or because somebody used up the ids
-- of the stream by hand. A script that changes nodes or the leader must not fail for that.
function EVENTS.add(text)
    local id = redis.pcall('XADD', of_type(EVENTS.LOG, 'stream'), 'MAXLEN', '~', EVENTS.LOG_MAX, '*',
        'event', text)
    return type(id) == 'string' and id or ''
end

-- kind: 'node' or 'leader'; name '': none.
local function append_event(kind, name, state, reason)
    EVENTS.add(cjson.encode({
        at = EVENTS.rfc3339(NOW_MS),
        kind = kind,
        name = name ~= '' and name or cjson.null,
        state = state,
        reason = reason,
    }))
end

-- To the nodes with listeners. from, batch: of a node, or '' and 0.
function EVENTS.publish(from, batch, lost, texts, ids)
    redis.call('PUBLISH', EVENTS.CHANNEL, string.format(
        '{"from":"%s","batch":%s,"lost":%s,"events":[%s],"ids":[%s]}', from, batch, lost,
        table.concat(texts, ','), table.concat(ids, ',')))
end
