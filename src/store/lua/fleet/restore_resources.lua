-- restore_resources: restores the sinks, profiles, routes and quotas of the fleet from what a node
-- knows, after Redis has lost all of them. ARGV[2...]: revision, version and document of the routes ('':
-- none), the same of the quotas, and kind, name, version, type, document of each sink and profile. If
-- Redis has any resource, nothing is restored.
-- Answers: 'OK', restored (1 or 0).

if redis.call('EXISTS', RESOURCES) + redis.call('EXISTS', SINKS) + redis.call('EXISTS', PROFILES) +
    redis.call('EXISTS', ROUTES) + redis.call('EXISTS', quotas.key) > 0 then
    return { 'OK', 0 }
end
redis.call('SET', RESOURCES, ARGV[2])
if ARGV[4] ~= '' then
    redis.call('SET', ROUTES, string.format('%.0f 0\n', tonumber(ARGV[3])) .. ARGV[4])
end
if ARGV[6] ~= '' then
    redis.call('SET', quotas.key, string.format('%.0f 0\n', tonumber(ARGV[5])) .. ARGV[6])
end
for i = 7, #ARGV, 5 do
    resources.write(resources.hashes[ARGV[i]], ARGV[i + 1], {
        version = tonumber(ARGV[i + 2]), was = 0, type = ARGV[i + 3], document = ARGV[i + 4],
    })
end
return { 'OK', 1 }
