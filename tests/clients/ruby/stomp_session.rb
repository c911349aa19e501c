# frozen_string_literal: true

# Connections of STOMP by Ruby's stomp gem, for one check.

require "socket"
require "stomp"
require "timeout"
require "uri"
require_relative "checks"

# Whatever the locale is: the gem takes headers for text in this encoding.
Encoding.default_external = Encoding::UTF_8

BROKER = URI(ENV.fetch("STOMP_URI") { abort "STOMP_URI is not set, e.g. stomp://guest:guest@127.0.0.1:61613" })
VERSIONS = %w[1.0 1.1 1.2].freeze
SECONDS = 5
# Queues delete themselves a while after their last consumer.
EXPIRES = { "x-expires": "60000" }.freeze

# What the gem says by itself, without a word on standard error.
class Quiet < Stomp::NullLogger
  attr_reader :events

  def initialize
    super
    @events = Queue.new
  end

  %i[on_connected on_connectfail on_hbread_fail on_hbwrite_fail].each do |event|
    define_method(event) { |*| @events << event }
  end

  # Told is what the gem asks, lest it write.
  def on_miscerr(*)
    true
  end
end

def host_of_broker(**other)
  { login: BROKER.user, passcode: BROKER.password, host: BROKER.host, port: BROKER.port }.merge(other)
end

# The parameters of the gem for a version, of which 1.0 is the one without headers.
def parameters(version, hosts: [host_of_broker], headers: {}, **options)
  versions = version == "1.0" ? {} : { "accept-version": version, host: "/" }
  { hosts: hosts, reliable: false, logger: Quiet.new, connect_headers: versions.merge(headers) }.merge(options)
end

# A connected Stomp::Connection, whose frames are read by whoever waits for one.
class Connection
  attr_reader :version, :stomp

  def initialize(version = "1.2", **options)
    @version = version
    @stomp = Stomp::Connection.new(parameters(version, **options))
    @kept = Hash.new { |kept, command| kept[command] = [] }
    @receipts = 0
  end

  def connected
    @stomp.connection_frame
  end

  # The next frame of a kind. Others are kept for those who want them.
  def frame(command, seconds = SECONDS)
    Timeout.timeout(seconds, RuntimeError, "no #{command} within #{seconds} s") do
      while @kept[command].empty?
        read = @stomp.receive or raise "the broker ended the connection"
        @kept[read.command] << read
      end
    end
    @kept[command].shift
  end

  def message(seconds = SECONDS)
    frame("MESSAGE", seconds)
  end

  def bodies(count)
    Array.new(count) { message.body }
  end

  # Sends a message without waiting for a receipt.
  def post(destination, body, headers = {})
    @stomp.publish(destination, body, headers)
  end

  # Sends a message and waits until the broker has it.
  def publish(destination, body, headers = {})
    with_receipt { |receipt| @stomp.publish(destination, body, headers.merge(receipt)) }
  end

  def subscribe(destination, id: "1", **headers)
    with_receipt { |receipt| @stomp.subscribe(destination, { id: id }.merge(headers, receipt)) }
  end

  def unsubscribe(destination, id: "1", **headers)
    with_receipt { |receipt| @stomp.unsubscribe(destination, { id: id }.merge(headers, receipt)) }
  end

  def ack(message, **headers)
    @stomp.ack(*settled(message, headers))
  end

  def nack(message, **headers)
    @stomp.nack(*settled(message, headers))
  end

  # A new transaction.
  def begin
    name = Checks.unique("tx")
    @stomp.begin(name)
    name
  end

  def commit(transaction)
    with_receipt { |receipt| @stomp.commit(transaction, receipt) }
  end

  def abort(transaction)
    with_receipt { |receipt| @stomp.abort(transaction, receipt) }
  end

  # Waits until the broker has done all that it was asked.
  def sync
    abort(self.begin)
  end

  def nothing_more
    sync
    Checks.equal(@kept["MESSAGE"].map(&:body), [], "messages that should not come")
  end

  def error
    frame("ERROR")
  end

  def ended
    Timeout.timeout(SECONDS, RuntimeError, "the connection goes on") { nil while @stomp.receive }
  rescue Errno::ECONNRESET, Stomp::Error::NoCurrentConnection
    nil
  end

  # Ends the connection without a word.
  def drop
    @stomp.__send__(:close_socket)
  end

  private

  def with_receipt
    @receipts += 1
    yield({ receipt: "r#{@receipts}" })
    Checks.equal(frame("RECEIPT").headers["receipt-id"], "r#{@receipts}", "receipt")
  end

  # What the gem wants to be told of a message that is settled.
  def settled(message, headers)
    return [message.headers["ack"], headers] if @version == "1.2"

    [message.headers["message-id"], headers.merge(subscription: message.headers["subscription"])]
  end
end

# Passes bytes on to the broker, until it is cut off.
class Relay
  attr_reader :port

  def initialize
    @server = TCPServer.new("127.0.0.1", 0)
    @port = @server.addr[1]
    @sockets = []
    @thread = Thread.new { loop { accept } }
    @thread.report_on_exception = false
  end

  # Ends every connection. Later ones are taken again.
  def cut
    @sockets.each { |socket| socket.shutdown rescue nil }
  end

  def close
    @thread.kill
    @server.close
    cut
  end

  private

  def accept
    near = @server.accept
    far = TCPSocket.new(BROKER.host, BROKER.port)
    @sockets.push(near, far)
    [[near, far], [far, near]].each do |from, to|
      Thread.new do
        IO.copy_stream(from, to)
        to.shutdown
      rescue SystemCallError, IOError
        nil
      end
    end
  end
end

# One check's connections.
class Session
  def initialize
    @open = []
  end

  def connection(version = "1.2", **options)
    kept(Connection.new(version, **options))
  end

  # A Stomp::Client, which reads in a thread of its own.
  def client(version = "1.2", **options)
    kept(Stomp::Client.new(parameters(version, **options)))
  end

  def relay
    kept(Relay.new)
  end

  def queue
    "/queue/#{Checks.unique('q')}"
  end

  def topic
    "/topic/#{Checks.unique('t')}"
  end

  def kept(what)
    @open << what
    what
  end

  def close
    @open.reverse_each do |each|
      each.is_a?(Connection) ? each.drop : each.close
    rescue StandardError
      nil # It has ended by itself.
    end
  end
end

# Registers a check once for every version of STOMP; it gets the version beside the session.
def each_version(name, versions = VERSIONS, &run)
  versions.each { |version| Checks.check("#{name}-v#{version}") { |session| run.call(session, version) } }
end
