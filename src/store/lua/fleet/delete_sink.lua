-- delete_sink: removes a sink of the fleet. ARGV[2...]: name, expected version (0: any).
-- Refused: no such sink; another version.
-- Answers: 'OK' | 'NOT_FOUND' | 'VERSION'.

local name, expected = ARGV[2], tonumber(ARGV[3])

local sink = sink_of(name)
if not sink then
    return { 'NOT_FOUND' }
end
if expected ~= 0 and expected ~= sink.version then
    return { 'VERSION' }
end
redis.call('HDEL', SINKS, name)
next_resources_revision()
return { 'OK' }
