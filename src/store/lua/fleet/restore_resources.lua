-- restore_resources: puts back the sinks and routes of the fleet that a node knows, after Redis has
-- lost them all. ARGV[2...]: revision, version and document of the routes ('': none), and name,
-- version, type, document of each sink. Nothing happens if there are resources: then Redis says
-- what there is.
-- Answers: 'OK', restored (1 or 0).

if redis.call('EXISTS', RESOURCES) + redis.call('EXISTS', SINKS) + redis.call('EXISTS', ROUTES) > 0 then
    return { 'OK', 0 }
end
redis.call('SET', RESOURCES, ARGV[2])
if ARGV[4] ~= '' then
    redis.call('SET', ROUTES, string.format('%.0f 0\n', tonumber(ARGV[3])) .. ARGV[4])
end
for i = 5, #ARGV, 4 do
    write_sink(ARGV[i], {
        version = tonumber(ARGV[i + 1]), was = 0, type = ARGV[i + 2], document = ARGV[i + 3],
    })
end
return { 'OK', 1 }
