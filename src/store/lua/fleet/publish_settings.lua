-- publish_settings: the name of the fleet, and the settings of its nodes. ARGV[2...]: the name of
-- the fleet ('': any), node ('': only reads), its settings (JSON), maximum number of rows. The
-- first node with a name gives it to the fleet.
-- Refused: the fleet has another name ('REFUSED', that name).
-- Answers: 'OK', name ('': none), name and settings of each registered node whose settings differ,
-- and of each node that ended without leaving within the last hour its name, how long ago in ms, and
-- how many clients it had.

local fleet, node, settings, rows_max = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

local name = redis.pcall('GET', FLEET)
name = text_or(name, '')
if fleet ~= '' and name ~= '' and name ~= fleet then
    return { 'REFUSED', name }
end
if node ~= '' then
    if fleet ~= '' then
        redis.call('SET', FLEET, fleet)
        name = fleet
    end
    redis.pcall('HSET', SETTINGS, node, settings)
end

local rows = {}
local all = rows_max > 0 and redis.pcall('HGETALL', SETTINGS) or {}
for i = 1, #all, 2 do
    if #rows < rows_max and all[i + 1] ~= settings and
        redis.call('HEXISTS', REGISTER, all[i]) == 1 then
        rows[#rows + 1] = { all[i], all[i + 1] }
    end
end

local vanished = {}
local ended = rows_max > 0 and redis.pcall('HGETALL', LEVELLING.VANISHED) or {}
for i = 1, #ended, 2 do
    local at, clients = string.match(ended[i + 1], '^(%d+) (%d+)$')
    local age_ms = NOW_MS - (to_integer(at) or 0)
    if #vanished < rows_max and age_ms >= 0 and age_ms <= LEVELLING.VANISHED_MS then
        vanished[#vanished + 1] = { ended[i], age_ms, to_integer(clients) }
    end
end
return { 'OK', name, rows, vanished }
