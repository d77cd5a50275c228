-- publish_settings: the name of the fleet, and the settings of its nodes. ARGV[2...]: the name of
-- the fleet ('': any), node ('': only reads), its settings (JSON), maximum number of rows. The
-- first node with a name gives it to the fleet.
-- Refused: the fleet has another name ('REFUSED', that name).
-- Answers: 'OK', name ('': none), and name and settings of each registered node whose settings
-- differ.

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
return { 'OK', name, rows }
