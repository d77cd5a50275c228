-- Quotas of the fleet. Each one limits what the clients with one value of a label use. A hash records
-- which client counts for which quota, and the number of a quota changes only with that hash, so a script
-- may be repeated. Older nodes do not write the hash: the leader (count_quotas) compares it with the clients.
-- One table, because a script has at most 200 local names.

local quotas = {
    key = PREFIX .. 'mqtt_fleet:quotas',
    counted_key = PREFIX .. 'mqtt_fleet:counted',
    clients_key = PREFIX .. 'mqtt_fleet:quota_clients',
    use_key = PREFIX .. 'mqtt_fleet:quota_use',
    USE_MS = 10000,
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

-- What nodes have reported lately of the rates: name and report of each. forget: removes the others.
function quotas.uses(forget)
    local all, uses = redis.pcall('HGETALL', quotas.use_key), {}
    for i = 1, #all, 2 do
        local at, report = string.match(all[i + 1], '^(%d+)\n(.*)$')
        local age_ms = NOW_MS - (to_integer(at) or 0)
        if age_ms <= quotas.USE_MS and age_ms >= -quotas.USE_MS then
            uses[#uses + 1] = { all[i], report }
        elseif forget then
            redis.call('HDEL', quotas.use_key, all[i])
        end
    end
    return uses
end
