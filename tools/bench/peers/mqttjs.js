// mqtt.js with many clients, used as its documentation shows. Same commands as peer.h.
'use strict'

const fs = require('fs')
const path = require('path')
const readline = require('readline')
const { parseArgs } = require('util')
const mqtt = require(path.join(process.env.BENCH_NODE_MODULES, 'mqtt'))

const BUCKETS = 1024
const IN_FLIGHT_MAX = 64
const STAMP_END = 21

const text = (fallback) => ({ type: 'string', default: fallback })
const options = parseArgs({ options: {
  port: text('0'), clients: text('0'), qos: text('1'), prefix: text('bench/'),
  keepalive: text('60'), ca: text('') } }).values
const count = Number(options.clients)
const ca = options.ca ? fs.readFileSync(options.ca) : undefined

let received = 0
let bytes = 0
const delays = new Float64Array(BUCKETS)
let opened = 0
let online = 0
const all = []

// CLOCK_MONOTONIC, in ms, without a BigInt for each message. The first calls are slow; the widest
// distance is the one with the least time between the two.
let offsetMs = 0
for (let i = 0; i < 100; i++) {
  offsetMs = Math.max(offsetMs, Number(process.hrtime.bigint()) / 1e6 - performance.now())
}

function bucket (us) {
  if (us < 32) return us
  const exponent = 31 - Math.clz32(us)
  return Math.min((exponent - 4) * 32 + ((us >> (exponent - 5)) & 31), BUCKETS - 1)
}

function onMessage (topic, payload) {
  received++
  bytes += payload.length
  if (payload.length < STAMP_END) return
  const sentMs = Number(payload.latin1Slice(2, STAMP_END)) / 1e6
  const us = (performance.now() + offsetMs - sentMs) * 1000
  delays[bucket(us > 0 ? us | 0 : 0)]++
}

function die (error) {
  console.error(error)
  process.exit(1)
}

function openMore () {
  while (opened < count && opened - online < IN_FLIGHT_MAX) open(String(opened++).padStart(5, '0'))
}

function open (number) {
  const client = mqtt.connect(`${ca ? 'mqtts' : 'mqtt'}://127.0.0.1:${options.port}`, {
    clientId: `c${number}`, keepalive: Number(options.keepalive), reconnectPeriod: 0, ca
  })
  all.push(client)
  client.on('error', die)
  client.on('close', () => die(new Error(`${number} closed`)))
  client.on('message', onMessage)
  client.on('connect', () => {
    client.subscribe(options.prefix + number, { qos: Number(options.qos) }, (error) => {
      if (error) die(error)
      if (++online === count) say({ online })
      openMore()
    })
  })
}

function say (answer) {
  process.stdout.write(JSON.stringify(answer) + '\n')
}

const commands = {
  start: openMore,
  mark () {
    received = bytes = 0
    delays.fill(0)
    say({ marked: true })
  },
  report () {
    const rows = []
    delays.forEach((n, i) => { if (n > 0) rows.push([i, n]) })
    say({ received, bytes, delays_us: rows })
  },
  quit: () => process.exit(0)
}

readline.createInterface({ input: process.stdin })
  .on('line', (line) => commands[line] && commands[line]())
  .on('close', commands.quit)
say({ ready: true })
