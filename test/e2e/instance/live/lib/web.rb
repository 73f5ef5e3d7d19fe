# frozen_string_literal: true

require "json"
require "socket"
require "webrick"
require "attachment"
require "database"
require "environment"
require "policy"
require "storage"

# Mastodon's web process: the page that people see, and an API to post and delete pictures.
class Web
  attr_reader :socket

  def initialize(root)
    @database = Database.new(File.join(root, "tmp", "database.jsonl"))
    @storage = Storage.from(ENV, root)
    @policy = Policy.new(ENV).header
    inherited = ENV.delete("PUMA_INHERIT_0")
    @socket = inherited ? TCPServer.for_fd(Integer(inherited)) : TCPServer.new("127.0.0.1", Integer(ENV.fetch("PORT")))
    @stopped, @stopper = IO.pipe
    @server = Server.new(DoNotListen: true, AccessLog: [], ServerSoftware: "stand-in",
                         Logger: WEBrick::Log.new($stderr, WEBrick::Log::WARN))
    routes.each { |path, answer| @server.mount(path, Servlet, answer) }
  end

  # Answers requests until stop, and then those whose connections it has taken. The socket stays open: a reload goes on with it,
  # so that nobody is refused.
  def run
    Environment.note_start(@storage.name)
    Thread.new { @storage.warm }.report_on_exception = false # a request will say what is wrong
    threads = []
    until IO.select([@socket, @stopped]).first.include?(@stopped)
      client = @socket.accept_nonblock(exception: false)
      next if client == :wait_readable

      threads.select!(&:alive?)
      threads << Thread.new(client) { |taken| answer(taken) }
    end
    threads.each(&:join)
  end

  def stop = @stopper.write_nonblock(".")

  # WEBrick's own loop drops the connections that it has taken when it stops, so that is not used, only what it does for each.
  class Server < WEBrick::HTTPServer
    def initialize(...)
      super
      @status = :Running
    end
  end

  # Gives requests to a block by their method. Answers are of this moment and nobody may keep them, as those of Rails.
  class Servlet < WEBrick::HTTPServlet::AbstractServlet
    def initialize(server, answers)
      super(server)
      @answers = answers
    end

    def service(request, response)
      answer = @answers[request.request_method == "HEAD" ? "GET" : request.request_method]
      raise WEBrick::HTTPStatus::MethodNotAllowed unless answer

      response["Cache-Control"] = "private, no-store"
      answer.call(request, response)
    end
  end

  private

  def answer(client)
    @server.run(client)
  rescue SystemCallError, IOError => e
    warn "a visitor has gone: #{e.message}"
  ensure
    client.close
  end

  def routes
    {
      "/" => { "GET" => method(:page) },
      "/packs/stand-in.js" => { "GET" => method(:script) },
      "/api/known" => { "GET" => method(:known) },
      "/api/media" => { "POST" => method(:post), "DELETE" => method(:delete) }
    }
  end

  def known(_request, response)
    all = @database.all
    media = all.flat_map { |medium| medium.files.select { |f| f["stored"] }.map { |f| describe(medium, f) } }
    json(response, 200, unsettled: @database.unsettled.size, media: media)
  end

  # Stores a new picture. One that could not be stored is not known.
  def post(_request, response)
    number = Attachment.number
    files = Attachment.files(number)
    original = files.first
    Attachment.store(@storage, number, original)
    json(response, 200, describe(@database.add(Attachment.id(number), files), original))
  rescue StandardError => e
    unavailable(response, "store a picture", e)
  end

  def delete(request, response)
    medium = @database.find(request.path.delete_prefix("/api/media/"))
    raise WEBrick::HTTPStatus::NotFound unless medium

    medium = @database.delete(medium.id)
    json(response, 200, describe(medium, medium.files.first))
  rescue SystemCallError => e
    unavailable(response, "delete a picture", e)
  end

  def unavailable(response, what, error)
    warn "#{what}: #{error.class}: #{error.message}"
    json(response, 503, error: "#{what}: #{error.class}")
  end

  def describe(medium, file)
    { id: medium.id, key: file["key"], url: @storage.url(file["key"]), sha256: file["sha256"],
      state: medium.live? ? "live" : "deleted",
      created_at: medium.created_at, deleted_at: medium.deleted_at, removed_at: medium.removed_at }
  end

  def json(response, status, body)
    response.status = status
    response.content_type = "application/json"
    response.body = JSON.generate(body)
  end

  # The newest pictures, 20 or as many as ?pictures=N says.
  def page(request, response)
    raise WEBrick::HTTPStatus::NotFound unless request.path == "/"

    response["Content-Security-Policy"] = @policy
    response.content_type = "text/html; charset=utf-8"
    response.body = html(newest(Integer(request.query.fetch("pictures", "20"), 10)).map { |key| @storage.url(key) })
  end

  def newest(count)
    keys = @database.all.select(&:live?).flat_map { |medium| medium.files.select { |f| f["stored"] }.map { |f| f["key"] } }
    keys.grep(/\.(png|jpe?g)\z/).last(count).reverse
  end

  def html(urls)
    pictures = urls.map { |url| %(<img class="media" alt="" src="#{WEBrick::HTMLUtils.escape(url)}">) }
    <<~HTML
      <!DOCTYPE html>
      <html lang="en">
      <head><meta charset="utf-8"><title>Mastodon</title><link rel="icon" href="data:,"></head>
      <body>
      <main>
      #{pictures.join("\n")}
      </main>
      <p id="fetched"></p>
      <script src="/packs/stand-in.js"></script>
      </body>
      </html>
    HTML
  end

  # Mastodon's service worker fetches media: by connect-src of the policy, and by CORS from another host.
  def script(_request, response)
    response.content_type = "text/javascript"
    response.body = <<~JS
      const picture = document.querySelector("img.media");
      const say = (text) => { document.getElementById("fetched").textContent = text; };
      if (picture) {
        fetch(picture.src, { mode: "cors" })
          .then((answer) => answer.blob().then((blob) => say(answer.status + " " + blob.size)))
          .catch((error) => say("failed: " + error));
      } else {
        say("nothing");
      }
    JS
  end
end
