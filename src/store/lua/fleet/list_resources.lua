-- list_resources: the sinks or the profiles of the fleet. ARGV[2...]: 'sinks' or 'profiles', a name
-- ('': all).
-- Answers: 'OK', revision of the resources, and name, version, type, document of each.

local hash, names = resources.hashes[ARGV[2]], { ARGV[3] }
local rows = {}
if ARGV[3] == '' then
    names = {}
    local pairs_of_all = redis.call('HGETALL', hash)
    for i = 1, #pairs_of_all, 2 do
        names[#names + 1] = pairs_of_all[i]
    end
end
table.sort(names)
for _, name in ipairs(names) do
    local resource = resources.of(hash, name)
    if resource then
        rows[#rows + 1] = { name, resource.version, resource.type, resource.document }
    end
end
return { 'OK', resources.revision(), rows }
