-- dead_letters: lists, counts or drops dead letters, from the oldest on. ARGV[2...]: 'list', 'count'
-- or 'drop'; the id after which it begins ('': none); the first and the last time in ms ('': none);
-- id, sink, client and topic filter that must match ('': any); the maximum of matches; the name and the
-- value of a label that the client had ('': any).
-- Answers: 'OK', Redis time in ms, the id after which to continue ('': none is left), matches, length
-- of the stream, the entries that match ('list').

local PAGE_MAX = 64
local PAGE_BYTES = 262144 -- pages that are larger are followed by shorter ones
local SCANNED_MAX = 2000
local BYTES_MAX = 4194304 -- that are looked at

local action, after, since, till = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local wanted_id, wanted_topic, matches_max = ARGV[6], ARGV[9], tonumber(ARGV[10])
local label, label_value = ARGV[11], ARGV[12]
local wanted = { dead_letter_sink = ARGV[7], id = ARGV[8] }

local function levels_of(topic)
    local levels = {}
    for level in (topic .. '/'):gmatch('([^/]*)/') do
        levels[#levels + 1] = level
    end
    return levels
end

local filter = levels_of(wanted_topic)

-- MQTT 5.0 section 4.7
local function topic_matches(topic)
    local levels = levels_of(topic)
    for i, level in ipairs(filter) do
        if level == '#' then
            return true
        elseif not levels[i] or (level ~= '+' and level ~= levels[i]) then
            return false
        end
    end
    return #levels == #filter
end

local function label_matches(text)
    local decoded, labels = pcall(cjson.decode, text)
    return decoded and type(labels) == 'table' and labels[label] == label_value
end

local function matches(fields)
    local labelled = label == ''
    for i = 1, #fields, 2 do
        local name, value = fields[i], fields[i + 1]
        labelled = labelled or (name == 'labels' and label_matches(value))
        if wanted[name] and wanted[name] ~= '' and wanted[name] ~= value then
            return false
        elseif name == 'topic' and wanted_topic ~= '' and not topic_matches(value) then
            return false
        end
    end
    return labelled
end

local function size_of(fields)
    local bytes = 0
    for i = 1, #fields do
        bytes = bytes + #fields[i]
    end
    return bytes
end

local function successor(id)
    local ms, sequence = id:match('^(%d+)-(%d+)$')
    return ms and string.format('%s-%.0f', ms, tonumber(sequence) + 1) or id
end

-- A function, because its variables do not count among the 200 of a script.
local function search(first, last)
    local found, next_id = {}, ''
    local matched, scanned, bytes = 0, 0, 0
    local page_len, done = 1, false
    while not done do
        local page = redis.call('XRANGE', DEAD, first, last, 'COUNT', page_len)
        local bytes_before = bytes
        done = #page < page_len
        for i = 1, #page do
            local id, fields = page[i][1], page[i][2]
            scanned = scanned + 1
            bytes = bytes + size_of(fields)
            if matches(fields) then
                matched = matched + 1
                if action == 'list' then
                    found[#found + 1] = page[i]
                elseif action == 'drop' then
                    redis.call('XDEL', DEAD, id)
                end
            end
            first = successor(id)
            if matched >= matches_max or scanned >= SCANNED_MAX or bytes >= BYTES_MAX then
                next_id = id
                done = true
                break
            end
        end
        page_len = bytes - bytes_before < PAGE_BYTES and math.min(page_len * 2, PAGE_MAX) or 1
    end
    return { 'OK', NOW_MS, next_id, matched, redis.call('XLEN', DEAD), found }
end

local first = wanted_id ~= '' and wanted_id or after ~= '' and successor(after) or since ~= '' and since or '-'
local last = wanted_id ~= '' and wanted_id or till ~= '' and till or '+'
if redis.call('TYPE', DEAD).ok ~= 'stream' then
    return { 'OK', NOW_MS, '', 0, 0, {} }
end
return search(first, last)
