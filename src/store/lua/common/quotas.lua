-- Quotas of the fleet. Each one limits the number of clients with one value of a label. A hash records
-- which client counts for which quota, and the number of a quota changes only with that hash, so a script
-- may be repeated. Older nodes do not write the hash: the leader (count_quotas) compares it with the clients.
-- One table, because a script has at most 200 local names.

local quotas = {
    key = PREFIX .. 'mqtt_fleet:quotas',
    counted_key = PREFIX .. 'mqtt_fleet:counted',
    clients_key = PREFIX .. 'mqtt_fleet:quota_clients',
}

-- Stored like the routes. A quota has the label and the value of its scope; all have the same label.
function quotas.stored()
    local text = redis.call('GET', quotas.key) or ''
    local version, was, document = string.match(text, '^(%d+) (%d+)\n(.*)$')
    if version then
        return { version = to_integer(version), was = to_integer(was), document = document }
    end
end

function quotas.read()
    local stored = quotas.stored()
    local decoded, list = pcall(cjson.decode, stored and stored.document or '[]')
    quotas.by_value = {}
    for _, quota in ipairs(decoded and type(list) == 'table' and list or {}) do
        quotas.label = quota.label
        quotas.by_value[quota.value] = quota
    end
end

-- The quota for which a client with this configuration counts, or nil.
function quotas.of(config)
    if not quotas.by_value then
        quotas.read()
    end
    if not quotas.label then
        return nil
    end
    local decoded, fields = pcall(cjson.decode, config)
    local labels = decoded and type(fields) == 'table' and fields.labels
    local value = type(labels) == 'table' and labels[quotas.label]
    return value and quotas.by_value[value]
end

function quotas.clients(scope)
    return to_integer(redis.call('HGET', quotas.clients_key, scope)) or 0
end

function quotas.add_clients(scope, number)
    local clients = quotas.clients(scope) + number
    redis.call('HSET', quotas.clients_key, scope, string.format('%.0f', clients))
end

-- From now on the client counts for this quota; nil: for none.
function quotas.count(id, quota)
    local before = redis.call('HGET', quotas.counted_key, id) or nil
    local scope = quota and quota.scope
    if before == scope then
        return
    end
    if before then
        quotas.add_clients(before, -1)
        redis.call('HDEL', quotas.counted_key, id)
    end
    if scope then
        redis.call('HSET', quotas.counted_key, id, scope)
        quotas.add_clients(scope, 1)
    end
end
