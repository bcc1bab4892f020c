<?php
/**
 * The gateway: asks the stack's POST /server/checkout for an address, and sends the buyer there.
 *
 * @package PocketsflowGateway
 */

defined( 'ABSPATH' ) || exit;

/**
 * Leaves every order pending: nothing here says that one is paid.
 */
class Pocketsflow_Gateway extends WC_Payment_Gateway {

	const TIMEOUT = 20;

	const SKU = '/\A[a-z0-9][a-z0-9_-]{0,63}\z/';

	/**
	 * Reads the settings.
	 */
	public function __construct() {
		$this->id                 = 'pocketsflow';
		$this->has_fields         = false;
		$this->supports           = array( 'products' );
		$this->method_title       = __( 'Pocketsflow', 'pocketsflow-gateway' );
		$this->method_description = __( 'Buyers pay at Pocketsflow, and your stack on AWS marks the order paid. Refund at Pocketsflow: the order follows.', 'pocketsflow-gateway' );
		$this->init_form_fields();
		$this->init_settings();
		$this->title       = $this->get_option( 'title' );
		$this->description = $this->get_option( 'description' );
		add_action( 'woocommerce_update_options_payment_gateways_' . $this->id, array( $this, 'process_admin_options' ) );
	}

	/**
	 * The settings. The key is no field where wp-config.php has it: no page shows it then.
	 */
	public function init_form_fields() {
		$this->form_fields = array(
			'enabled'     => array(
				'title'   => __( 'Enabled', 'pocketsflow-gateway' ),
				'type'    => 'checkbox',
				'label'   => __( 'Let buyers pay at Pocketsflow', 'pocketsflow-gateway' ),
				'default' => 'no',
			),
			'title'       => array(
				'title'   => __( 'Title', 'pocketsflow-gateway' ),
				'type'    => 'text',
				'default' => __( 'Card and more, at Pocketsflow', 'pocketsflow-gateway' ),
			),
			'description' => array(
				'title'   => __( 'Description', 'pocketsflow-gateway' ),
				'type'    => 'textarea',
				'default' => __( 'You pay on the next page. Tax is added there, where it is due.', 'pocketsflow-gateway' ),
			),
			'api'         => array(
				'title'       => __( 'Address of the stack', 'pocketsflow-gateway' ),
				'type'        => 'text',
				'description' => __( 'Its output ApiUrl, which begins with https://', 'pocketsflow-gateway' ),
				'default'     => '',
			),
			'sells'       => array(
				'title'   => __( 'What is sold', 'pocketsflow-gateway' ),
				'type'    => 'select',
				'options' => array(
					'cart' => __( 'Any cart (the stack has ProductPerOrder=on)', 'pocketsflow-gateway' ),
					'sku'  => __( 'One unit of one product with the SKU of its catalogue', 'pocketsflow-gateway' ),
				),
				'default' => 'cart',
			),
			'mode'        => array(
				'title'   => __( 'Mode of the stack', 'pocketsflow-gateway' ),
				'type'    => 'select',
				'options' => array(
					'test' => __( 'test: only managers of the shop see the gateway', 'pocketsflow-gateway' ),
					'live' => __( 'live', 'pocketsflow-gateway' ),
				),
				'default' => 'test',
			),
		);
		if ( ! defined( 'POCKETSFLOW_KEY' ) ) {
			$this->form_fields['key'] = array(
				'title'       => __( 'Key', 'pocketsflow-gateway' ),
				'type'        => 'password',
				'description' => __( 'What pf key create printed. Better: define POCKETSFLOW_KEY in wp-config.php.', 'pocketsflow-gateway' ),
				'default'     => '',
			);
		}
	}

	/**
	 * Whether this cart, or the order that is paid later, can be paid at Pocketsflow by who looks at it.
	 *
	 * @return bool
	 */
	public function is_available() {
		if ( ! parent::is_available() || '' === $this->api() || '' === $this->key() ) {
			return false;
		}
		if ( 'live' !== $this->get_option( 'mode' ) && ! current_user_can( 'manage_woocommerce' ) ) {
			return false;
		}
		if ( ! preg_match( '/\A[A-Z]{3}\z/', get_woocommerce_currency() ) || wc_get_price_decimals() > 3 ) {
			return false;
		}
		if ( 'sku' !== $this->get_option( 'sells' ) ) {
			return true;
		}
		if ( is_wc_endpoint_url( 'order-pay' ) ) {
			$order = wc_get_order( absint( get_query_var( 'order-pay' ) ) );
			return $order && null !== $this->sku_of( $order );
		}
		if ( ! WC()->cart ) {
			return true;
		}
		$lines = array();
		foreach ( WC()->cart->get_cart() as $line ) {
			$lines[] = array( $line['data'], $line['quantity'] );
		}
		return null !== $this->sku( $lines, WC()->cart->get_total( 'edit' ) );
	}

	/**
	 * Sends the buyer to Pocketsflow. The same order asked for again is the same checkout.
	 *
	 * @param int $order_id The order's.
	 * @return array
	 */
	public function process_payment( $order_id ) {
		$order = wc_get_order( $order_id );
		$asked = $order ? $this->body( $order ) : null;
		$made  = $asked ? $this->ask( $asked ) : null;
		if ( ! $made ) {
			wc_add_notice( __( 'Payment cannot be begun right now. Please try again in a moment.', 'pocketsflow-gateway' ), 'error' );
			return array( 'result' => 'failure' );
		}
		// Finds it in pf: nothing is decided by it.
		$order->update_meta_data( '_pocketsflow_order', sanitize_text_field( $made['orderId'] ) );
		$order->save();
		return array(
			'result'   => 'success',
			'redirect' => $made['url'],
		);
	}

	/**
	 * What POST /server/checkout is sent for an order; null for one that cannot be sold so. Whatever differs makes another
	 * reference, and one reference is one checkout.
	 *
	 * @param WC_Order $order The order.
	 * @return array|null
	 */
	private function body( $order ) {
		if ( 'sku' === $this->get_option( 'sells' ) ) {
			$body = array( 'sku' => $this->sku_of( $order ) );
			if ( null === $body['sku'] ) {
				$this->log( 'not_one_unit_of_one_product' );
				return null;
			}
		} else {
			/* translators: 1: name of the shop 2: number of the order */
			$name = sprintf( __( '%1$s: order %2$s', 'pocketsflow-gateway' ), wp_specialchars_decode( get_bloginfo( 'name' ), ENT_QUOTES ), $order->get_order_number() );
			$body = array( 'name' => mb_substr( trim( (string) preg_replace( '/[[:cntrl:]]+/u', ' ', $name ) ), 0, 200 ) );
		}
		$amount   = wc_format_decimal( $order->get_total(), wc_get_price_decimals() );
		$currency = strtolower( $order->get_currency() );
		$body    += array(
			'total'      => array(
				'amount'   => $amount,
				'currency' => $currency,
			),
			'metadata'   => array(
				'woocommerce_order' => (string) $order->get_id(),
				'woocommerce_total' => "$amount $currency",
			),
			'successUrl' => $this->get_return_url( $order ),
			// Not the address that cancels the order: the buyer may still pay in another tab.
			'cancelUrl'  => $order->get_checkout_payment_url(),
		);
		if ( is_email( $order->get_billing_email() ) ) {
			$body['customerEmail'] = $order->get_billing_email();
		}
		$digest = hash( 'sha256', wp_json_encode( $body ) );
		return $body + array( 'reference' => 'wc-' . $order->get_id() . '-' . substr( $digest, 0, 12 ) );
	}

	/**
	 * The SKU of what is ordered, as below.
	 *
	 * @param WC_Order $order The order.
	 * @return string|null
	 */
	private function sku_of( $order ) {
		$lines = array();
		foreach ( $order->get_items() as $item ) {
			$lines[] = array( $item->get_product(), $item->get_quantity() );
		}
		return $this->sku( $lines, $order->get_total() );
	}

	/**
	 * The SKU, if it is one unit of one product and costs just that: no shipping, fee, tax or coupon, of which
	 * Pocketsflow's product knows nothing.
	 *
	 * @param array        $lines Pairs of product and quantity.
	 * @param string|float $total Of the cart or order.
	 * @return string|null
	 */
	private function sku( $lines, $total ) {
		if ( 1 !== count( $lines ) || ! $lines[0][0] || 1 !== (int) $lines[0][1] ) {
			return null;
		}
		$decimals = wc_get_price_decimals();
		$sku      = (string) $lines[0][0]->get_sku();
		$is_price = wc_format_decimal( $lines[0][0]->get_price(), $decimals ) === wc_format_decimal( $total, $decimals );
		return $is_price && preg_match( self::SKU, $sku ) ? $sku : null;
	}

	/**
	 * The stack's answer; null, and a line in the log, when it is none to send a buyer on with.
	 *
	 * @param array $body As above.
	 * @return array|null
	 */
	private function ask( $body ) {
		$answer = wp_remote_post(
			$this->api() . '/server/checkout',
			array(
				'timeout'     => self::TIMEOUT,
				'redirection' => 0,
				'headers'     => array(
					'Authorization' => 'Bearer ' . $this->key(),
					'Content-Type'  => 'application/json',
				),
				'body'        => wp_json_encode( $body ),
			)
		);
		if ( is_wp_error( $answer ) ) {
			$this->log( $answer->get_error_code() );
			return null;
		}
		$status = (int) wp_remote_retrieve_response_code( $answer );
		$made   = json_decode( wp_remote_retrieve_body( $answer ), true );
		if ( 201 !== $status || ! isset( $made['url'], $made['orderId'] ) || ! $this->is_safe( $made['url'] ) ) {
			$this->log( isset( $made['code'] ) ? $made['code'] : 'no_checkout', $status );
			return null;
		}
		return $made;
	}

	/**
	 * The stack's address without a slash at its end; '' when it is none to send a key to.
	 *
	 * @return string
	 */
	private function api() {
		$api = untrailingslashit( trim( (string) $this->get_option( 'api' ) ) );
		return $this->is_safe( $api ) ? $api : '';
	}

	/**
	 * The key of this shop's server.
	 *
	 * @return string
	 */
	private function key() {
		return trim( (string) ( defined( 'POCKETSFLOW_KEY' ) ? POCKETSFLOW_KEY : $this->get_option( 'key' ) ) );
	}

	/**
	 * Whether an address is encrypted on its way, or does not leave a developer's machine.
	 *
	 * @param mixed $url The address.
	 * @return bool
	 */
	private function is_safe( $url ) {
		$local = 'local' === wp_get_environment_type() ? '|http:\/\/(localhost|127\.0\.0\.1)(:\d+)?(\/|\z)' : '';
		return is_string( $url ) && 1 === preg_match( "/\A(https:\/\/$local)/", $url );
	}

	/**
	 * Says why, with nothing of the buyer and nothing that the other side could have made up.
	 *
	 * @param mixed $code   The problem's.
	 * @param int   $status Of the answer.
	 */
	private function log( $code, $status = 0 ) {
		$code = is_string( $code ) && preg_match( '/\A[a-z_]{1,64}\z/', $code ) ? $code : 'unknown';
		wc_get_logger()->error( "No checkout: $code ($status)", array( 'source' => 'pocketsflow' ) );
	}
}
