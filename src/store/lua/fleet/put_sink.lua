-- put_sink: creates or changes a sink of the fleet. ARGV[2...]: name, expected version (0: any),
-- type, document (opaque), maximum number of sinks. The same document under the version that it
-- would replace changes nothing.
-- Refused: another version; a sink of another type ('STATE', the type); too many ('REFUSED').
-- Answers: 'OK', version, created (1 or 0) | 'VERSION' | 'NOT_FOUND' (a version was expected).

local name, expected, type_of, document = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]

local sink = sink_of(name)
if not sink and expected ~= 0 then
    return { 'NOT_FOUND' }
end
if sink and sink.type ~= type_of then
    return { 'STATE', sink.type }
end
if sink and sink.document == document and
    (expected == 0 or expected == sink.version or expected == sink.was) then
    return { 'OK', sink.version, 0 }
end
if sink and expected ~= 0 and expected ~= sink.version then
    return { 'VERSION' }
end
if not sink and redis.call('HLEN', SINKS) >= tonumber(ARGV[6]) then
    return { 'REFUSED' }
end
local version = next_resources_revision()
write_sink(name, {
    version = version, was = sink and sink.version or 0, type = type_of, document = document,
})
return { 'OK', version, sink and 0 or 1 }
