# frozen_string_literal: true

# Ruby's stomp gem against the broker in STOMP_URI: its connections and clients, in the three versions of STOMP.

require_relative "stomp_session"
require_relative "stomp_frames"
require_relative "stomp_settling"
require_relative "stomp_destinations"
require_relative "stomp_clients"

Checks.run_all(-> { Session.new })
