-- sinks: the sinks of the fleet. ARGV[2]: a name ('': all).
-- Answers: 'OK', revision of the resources, and name, version, type, document of each.

local rows = {}
local names = { ARGV[2] }
if ARGV[2] == '' then
    names = {}
    local pairs_of_all = redis.call('HGETALL', SINKS)
    for i = 1, #pairs_of_all, 2 do
        names[#names + 1] = pairs_of_all[i]
    end
end
table.sort(names)
for _, name in ipairs(names) do
    local sink = sink_of(name)
    if sink then
        rows[#rows + 1] = { name, sink.version, sink.type, sink.document }
    end
end
return { 'OK', resources_revision(), rows }
